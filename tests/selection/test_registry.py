"""The registry: found without importing, judged before loading, loaded once."""

from __future__ import annotations

import sys
import threading

import pytest

from forge3d_core.errors import BackendDenied, PluginFailed, UnknownBackend, UsageError
from forge3d_core.plugins import Candidate, Policy, State, discover
from forge3d_core.plugins.registry import REGISTRY, Registry


def test_discovery_imports_nothing(site):
    modules = [site.install(name) for name in ("one", "two")]
    assert set(site.registry().candidates()) == {"one", "two"}
    assert not site.ran("one")
    assert not set(modules) & set(sys.modules)


def test_only_the_plugin_that_is_asked_for_is_imported(site):
    one, two = site.install("one"), site.install("two")
    assert site.registry().load("one").name == "one"
    assert one in sys.modules
    assert two not in sys.modules
    assert not site.ran("two")


def test_importing_the_core_loads_no_plugin_and_no_gpu_library(site):
    site.install("one")
    code = (
        "import sys, forge3d_core, forge3d_core.selection.select\n"
        "print([m for m in sys.modules if m.startswith(('wgpu', 'cupy', 'forge3d_wgpu', 'forge3d_cuda', "
        "'forge3d_one', 'forge3d_core.host'))])"
    )
    done = site.run("-c", code)
    assert done.stdout == "[]\n", done.stderr
    assert not site.ran("one")


def test_a_plugin_is_loaded_once_by_any_number_of_threads(site):
    site.install("one")
    registry, found = site.registry(), []
    threads = [threading.Thread(target=lambda: found.append(registry.load("one"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("spelling", ["my-gpu", "My_GPU", " my.gpu "])
def test_names_are_compared_normalised(site, spelling):
    site.install("my-gpu", entry_points="[forge3d.backends]\nMy_Gpu = {module}:plugin\n")
    assert site.registry().load(spelling).name == "my-gpu"


@pytest.mark.parametrize("name", ["auto", "-x", "ünï", "a b", "gpu:0"])
def test_a_name_that_cannot_be_asked_for_is_reported(site, name):
    # an entry point's name holds no '=', and importlib.metadata takes all else
    site.install("odd", entry_points=f"[forge3d.backends]\n{name} = {{module}}:plugin\n")
    (status,) = [site.registry().status(known) for known in site.registry().candidates()]
    assert status.state is State.FAILED
    assert "forge3d-odd 1.0" in status.reason
    assert not site.ran("odd")


def test_damaged_metadata_is_reported_and_hides_nobody(site):
    site.install("damaged", entry_points="[forge3d.backends]\nthis line says nothing\n")
    site.install("sound")
    registry = site.registry()
    status = registry.status("forge3d-damaged")
    assert status.state is State.FAILED
    assert "entry_points.txt is damaged" in status.reason
    assert registry.status("sound").state is State.AVAILABLE


def test_a_name_that_two_distributions_offer_loads_neither(site):
    site.install("twin", distribution="twin-one")
    site.install("twin", distribution="twin-two")
    with pytest.raises(
        PluginFailed, match=r"twin-one 1\.0 and twin-two 1\.0.*FORGE3D_DENY=twin-two"
    ) as failure:
        site.registry().load("twin")
    assert failure.value.fix == "pip uninstall twin-two"
    assert not site.ran("twin")


@pytest.mark.parametrize(
    "policy", [Policy(deny=["twin-two"]), Policy(allow=["twin-one"])], ids=["deny", "allow"]
)
def test_a_collision_ends_when_policy_leaves_one(site, policy):
    site.install("twin", distribution="twin-one")
    site.install("twin", distribution="twin-two")
    assert site.registry().load("twin", policy).candidate.distribution == "twin-one"
    assert "twin_two_pkg" not in sys.modules


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(deny=["one"]), "deny list names one"),
        (Policy(deny=["Forge3D_One"]), "deny list names forge3d-one"),
        (Policy(allow=["two"]), "allow list holds two only"),
        (Policy(allow=[]), "allow list holds nothing only"),
        (Policy(allow=["one"], deny=["one"]), "deny list names one"),
    ],
)
def test_what_is_denied_is_not_imported_even_when_asked_for(site, policy, reason):
    module = site.install("one")
    with pytest.raises(BackendDenied, match=reason) as denied:
        site.registry().load("one", policy, requested=True)
    assert denied.value.fix
    assert not site.ran("one")
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("policy", "requested", "loads"),
    [
        (Policy(autoload=False), False, False),
        (Policy(autoload=False), True, True),
        (Policy(autoload=False, allow=["one"]), False, True),
        (Policy(autoload=False, allow=["two"]), True, False),
        (Policy(), False, True),
    ],
)
def test_without_autoload_a_plugin_loads_when_listed_or_named(site, policy, requested, loads):
    site.install("one")
    state = site.registry().status("one", policy, requested=requested).state
    assert state is (State.AVAILABLE if loads else State.DENIED)
    assert site.ran("one") is loads


def test_without_autoload_the_cores_own_backend_still_loads():
    ours = Candidate("host", "forge3d-core", "1.0", "forge3d_core.host.plugin")
    theirs = Candidate("host", "forge3d-core", "1.0", "forge3d_core_evil.plugin")
    assert Policy(autoload=False).refusal(ours, requested=False) is None
    assert Policy(autoload=False).refusal(theirs, requested=False) is not None


def test_policies_add_up_to_what_both_let_load():
    one = Policy(allow=["a", "b", "c"], deny=["x"])
    two = Policy(allow=["b", "c", "d"], deny=["c"], autoload=False)
    lets = {
        name: (one & two).refusal(Candidate(name, f"forge3d-{name}", "1", f"{name}:x"), requested=False)
        is None
        for name in "abcdx"
    }
    assert lets == {"a": False, "b": True, "c": False, "d": False, "x": False}
    assert one & Policy() == one & one == one


def test_each_policy_by_itself_has_to_permit():
    candidate = Candidate("evil", "forge3d-evil", "1", "evil:x")
    off, listed = Policy(autoload=False), Policy(allow=["evil"])
    for both in (off & listed, listed & off, Policy() & off & listed):
        assert both.refusal(candidate, requested=False)
        assert both.refusal(candidate, requested=True) is None
    by_distribution = Policy(allow=["forge3d-evil"]) & listed
    assert by_distribution.refusal(candidate, requested=False) is None


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("*", "write each name"),
        ("one*", "'one'"),
        ("one:0", "'one'"),
        ('"one"', "'one'"),
        ("['one']", "'one'"),
        ("one==1.0", "'one'"),
        ("one;two", "can never be"),
        ("one two", "can never be"),
        ("one\u200b", "'one'"),
        ("\u043ene", "can never be"),
        ("\u212aost", "can never be"),
    ],
)
def test_an_entry_that_can_never_be_a_name_is_refused(entry, advice):
    with pytest.raises(UsageError, match="can never be the name") as refused:
        Policy(deny=[entry])
    assert advice in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("oen", "did you mean 'one'"),
        ("zzz", "`forge3d backends` lists"),
        ("wgpu", "pip install .*wgpu"),
    ],
)
def test_an_unknown_name_comes_with_advice(site, name, advice):
    site.install("one")
    with pytest.raises(UnknownBackend, match=advice):
        site.registry().load(name)


def test_what_is_installed_meanwhile_is_found(site):
    registry = site.registry()
    assert registry.candidates() == {}
    site.install("late")
    assert registry.load("late").name == "late"


def test_a_failure_sticks_until_refresh(site):
    module = site.install("one", "raise RuntimeError('not today')")
    registry = site.registry()
    assert registry.status("one").state is State.FAILED
    (site.folder / module / "__init__.py").write_text(
        f"from {module}.tiny import *\nplugin = plugin(TinyBackend('one'))", "utf-8"
    )
    assert registry.status("one").state is State.FAILED
    registry.refresh()
    assert registry.status("one").state is State.AVAILABLE


def test_a_program_registers_a_backend_and_takes_it_back(site):
    registry = Registry(discovery=tuple)
    backend = site.tiny("mine")
    take_back = registry.register(backend)
    assert registry.load("mine").backend is backend
    with pytest.raises(UsageError, match="before"):
        registry.register(backend)
    take_back()
    with pytest.raises(UnknownBackend):
        registry.load("mine")
    assert registry.loaded() == ()


def test_a_registered_plugin_is_judged_and_collides_like_any_other(site):
    site.install("one")
    registry = site.registry()
    registry.register(site.tiny("one"))
    assert registry.status("one", Policy(deny=["one"])).state is State.DENIED
    with pytest.raises(PluginFailed, match="2 distributions"):
        registry.load("one")
    assert not site.ran("one")


def test_a_plugin_without_a_name_is_refused():
    with pytest.raises(UsageError, match="name="):
        Registry(discovery=tuple).register(object())


def test_the_installed_backends_are_the_global_registrys():
    assert {c for cs in REGISTRY.candidates().values() for c in cs} == set(discover())
