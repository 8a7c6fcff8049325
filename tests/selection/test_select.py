"""Selection: precedence, no fallback, automatic choice, options, hooks."""

from __future__ import annotations

import sys
from itertools import combinations

import attrs
import pytest

from forge3d_core.config import configuration
from forge3d_core.errors import (
    BackendDenied,
    ConfigError,
    FenceTimeout,
    ForgeError,
    MissingDependency,
    NoDevice,
    OutOfDeviceMemory,
    PluginFailed,
    UnknownBackend,
    UsageError,
)
from forge3d_core.hookspecs import hookimpl
from forge3d_core.plugins import BackendSpec, State
from forge3d_core.plugins.registry import Registry
from forge3d_core.selection.decision import Request, decide
from forge3d_core.selection.select import adopt_device, load_backend, open_device
from forge3d_core.units import MIB

SOURCES = ("argument", "environment", "project", "user", "automatic")


def registry_of(*backends):
    registry = Registry(discovery=tuple)
    for backend in backends:
        registry.register(backend)
    return registry


@pytest.fixture
def say(tmp_path, monkeypatch, site):
    """Return a function that makes one source name a backend and returns what the argument says then."""

    def say(source, key, value):
        if source == "environment":
            monkeypatch.setenv(f"FORGE3D_{key.upper()}", value)
        elif source == "project":
            (site.folder / "forge3d.toml").write_text(f'{key} = "{value}"\n', "utf-8")
        elif source == "user":
            user = tmp_path / "config" / "forge3d"
            user.mkdir(parents=True, exist_ok=True)
            monkeypatch.setattr("forge3d_core.config.layers.user_config_file", lambda: user / "config.toml")
            (user / "config.toml").write_text(f'{key} = "{value}"\n', "utf-8")
        return {key: value} if source == "argument" else {}

    return say


@pytest.mark.parametrize(("stronger", "weaker"), list(combinations(SOURCES, 2)))
def test_precedence_of_the_backend_pair_by_pair(site, say, stronger, weaker):
    registry = registry_of(site.tiny("low", score=1), site.tiny("high", score=9), site.tiny("best", score=99))
    says = say(weaker, "backend", "high") | say(stronger, "backend", "low")
    assert open_device(registry=registry, **says).info.backend == "low"


@pytest.mark.parametrize(("stronger", "weaker"), list(combinations(SOURCES[:-1], 2)))
def test_precedence_of_the_budget_pair_by_pair(site, say, stronger, weaker):
    registry = registry_of(site.tiny("one"))
    says = say(weaker, "budget", "2 MiB") | say(stronger, "budget", "1 MiB")
    assert open_device(registry=registry, **says).options.budget == MIB


def test_keys_are_decided_one_by_one(site, say):
    registry = registry_of(site.tiny("one"), site.tiny("two"))
    say("user", "budget", "3 MiB")
    says = say("project", "backend", "two") | {"drain_timeout": 1}
    device = open_device(registry=registry, **says)
    assert (device.info.backend, device.options.budget, device.options.drain_timeout) == ("two", 3 * MIB, 1.0)


def test_automatic_choice_takes_the_highest_score_and_its_selector(site):
    low, high = site.tiny("a", score=10), site.tiny("b", score=20, selectors=("x", "y"))
    assert open_device(registry=registry_of(low, high)).info.selector == "x"
    assert high.opened == ["x"]
    assert low.opened == []


def test_between_equals_the_name_decides(site):
    registry = registry_of(site.tiny("b"), site.tiny("a"))
    assert open_device(registry=registry).info.backend == "a"


def cautious(backend, free=()):
    """Have the backend's devices open only by name, but for those of the selectors ``free``."""
    listed = backend.probe()
    backend.probe = lambda: [
        info
        if info.selector in free
        else attrs.evolve(info, caution="it is slow; get a better one", fix="get one")
        for info in listed
    ]
    return backend


def test_automatic_choice_passes_over_a_device_with_a_caution(site):
    low, high = site.tiny("low", score=1), cautious(site.tiny("high", score=9), free="1")
    assert open_device(registry=registry_of(low, high)).info.selector == "1"
    assert open_device(registry=registry_of(low, cautious(site.tiny("high", score=9)))).info.backend == "low"
    with pytest.raises(NoDevice, match="high: unavailable"):
        open_device(registry=registry_of(cautious(site.tiny("high"))))


def test_a_device_with_a_caution_is_listed_with_it_and_decided_on_by_name_only(site):
    registry = registry_of(cautious(site.tiny("one")))
    status = registry.status("one")
    assert status.state is State.UNAVAILABLE
    assert [info.selector for info in status.devices] == ["0", "1"]
    assert status.reason == "one finds only one:0 (tiny 0), one:1 (tiny 1): it is slow; get a better one"
    assert status.fix == "get one"
    named = decide(Request.of(configuration(backend="one:1")), registry)
    assert (str(named.chosen), named.device.selector, named.error) == ("one:1", "1", None)
    assert decide(Request.of(configuration(backend="one:x")), registry).error is None  # the backend's to say
    bare = decide(Request.of(configuration(backend="one")), registry)
    assert (bare.chosen, type(bare.error)) == (None, NoDevice)
    mixed = decide(
        Request.of(configuration(backend="one")), registry_of(cautious(site.tiny("one"), free="1"))
    )
    assert mixed.device.selector == "1"


def test_auto_undoes_a_choice_made_below(site, say):
    registry = registry_of(site.tiny("low", score=1), site.tiny("high", score=9))
    say("project", "backend", "low")
    assert open_device("auto", registry=registry).info.backend == "high"


@pytest.mark.parametrize(
    "spec", ["one:?seed=42&chaos=1", "ONE:?seed=42&chaos=1", BackendSpec("one", "?seed=42&chaos=1")]
)
def test_the_selector_reaches_the_backend_as_it_is(site, spec):
    one = site.tiny("one")
    open_device(spec, registry=registry_of(one))
    assert one.opened == ["?seed=42&chaos=1"]


def test_opening_by_name_does_not_probe(site):
    one = site.tiny("one")
    one.probe = lambda: pytest.fail("probed")
    assert open_device("one", registry=registry_of(one)).info.selector == ""


@pytest.mark.parametrize("source", SOURCES[:-1])
def test_an_explicit_choice_never_falls_back(site, say, source):
    other = site.tiny("other")
    says = say(source, "backend", "wgpu")
    with pytest.raises(UnknownBackend, match=r"pip install .*wgpu"):
        open_device(registry=registry_of(other), **says)
    assert other.opened == []


def refusing(backend, error):
    def refuse(*_args):
        raise error

    backend.open = refuse
    return backend


def test_a_named_backend_without_the_device_says_so_and_nothing_else_opens(site):
    other = site.tiny("other", score=1)
    registry = registry_of(refusing(site.tiny("one"), NoDevice("no adapter 'x'; there is 'y'")), other)
    with pytest.raises(NoDevice, match="there is 'y'"):
        open_device("one:x", registry=registry)
    assert other.opened == []
    assert open_device(registry=registry).info.backend == "other"  # automatic choice goes on


@pytest.mark.parametrize("error", [RuntimeError("native"), SystemExit(1)])
def test_what_a_backend_lets_slip_while_opening_is_its_failure(site, error):
    registry = registry_of(refusing(site.tiny("one"), error), site.tiny("other", score=1))
    with pytest.raises(PluginFailed, match="opening a device of one") as failure:
        open_device("one", registry=registry)
    assert failure.value.__cause__ is error
    assert open_device(registry=registry).info.backend == "other"


def test_a_library_that_is_missing_when_the_device_opens_is_a_missing_dependency(site):
    error = ModuleNotFoundError("No module named 'vulkan_x'", name="vulkan_x")
    with pytest.raises(MissingDependency, match="one needs vulkan_x") as missing:
        open_device("one", registry=registry_of(refusing(site.tiny("one"), error)))
    assert missing.value.fix == 'pip install "vulkan_x"'


@pytest.mark.parametrize(
    "error",
    [
        ForgeError("boom"),
        OutOfDeviceMemory("none left"),
        UsageError("limits"),
        MemoryError(),
        FenceTimeout("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_automatic_choice_goes_on_whatever_the_best_device_raises(site, error):
    registry = registry_of(refusing(site.tiny("one"), error), site.tiny("b", score=1))
    assert open_device(registry=registry).info.backend == "b"


def test_when_every_device_refuses_each_reason_is_told(site):
    error = OutOfDeviceMemory("none left")
    registry = registry_of(refusing(site.tiny("one"), error))
    with pytest.raises(NoDevice, match="one:0: OutOfDeviceMemory: none left") as failure:
        open_device(registry=registry)
    assert failure.value.__cause__ is error


def test_what_is_no_device_is_refused(site):
    one = site.tiny("one")
    one.open = lambda *_args: "a device, honestly"
    with pytest.raises(PluginFailed, match="not a device"):
        open_device("one", registry=registry_of(one))


def test_when_nothing_opens_every_state_is_told(site, monkeypatch):
    monkeypatch.setenv("FORGE3D_DENY", "b")
    registry = registry_of(site.tiny("a", selectors=()), site.tiny("b"))
    with pytest.raises(NoDevice, match=r"a: unavailable; b: denied.*forge3d backends"):
        open_device(registry=registry)


def test_what_refused_is_told_apart_by_its_selector(site):
    registry = registry_of(refusing(site.tiny("a"), NoDevice("tiny is there and does not open")))
    with pytest.raises(NoDevice, match=r"a:0: tiny is there .*; a:1: tiny is there"):
        open_device(registry=registry)


def test_denied_before_import_wherever_the_list_stands(site, say):
    module = site.install("one")
    (site.folder / "forge3d.toml").write_text('[plugins]\ndeny = ["forge3d-one"]\n', "utf-8")
    with pytest.raises(BackendDenied, match="deny list"):
        open_device("one", registry=site.registry())
    with pytest.raises(NoDevice):
        open_device(registry=site.registry())
    assert module not in sys.modules
    assert not site.ran("one")


@pytest.mark.parametrize(
    ("source", "opens"), [("argument", True), ("environment", True), ("project", False), ("user", False)]
)
def test_without_autoload_only_a_person_can_name_a_plugin(site, say, monkeypatch, source, opens):
    site.install("one")
    monkeypatch.setenv("FORGE3D_AUTOLOAD", "0")
    says = say(source, "backend", "one")
    if opens:
        assert open_device(registry=site.registry(), **says).info.backend == "one"
    else:
        with pytest.raises(BackendDenied, match="autoload is off"):
            open_device(registry=site.registry(), **says)
    assert site.ran("one") is opens


def test_a_wrong_source_is_told_before_any_plugin_runs(site):
    site.install("one")
    (site.folder / "forge3d.toml").write_text("bakend = 1\n", "utf-8")
    with pytest.raises(ConfigError, match="did you mean 'backend'"):
        open_device("one", registry=site.registry())
    assert not site.ran("one")


@pytest.mark.parametrize("arguments", [{"backend": "a b"}, {"budget": "lots"}, {"drain_timeout": -1}])
def test_a_wrong_argument_is_a_usage_error(site, arguments):
    with pytest.raises(UsageError):
        open_device(registry=registry_of(site.tiny("one")), **arguments)


def test_adopting_goes_to_the_backend_that_is_named(site, say):
    native = object()
    say("environment", "backend", "other")
    registry = registry_of(site.tiny("one"), site.tiny("other"))
    device = adopt_device(native, "one", budget="1 MiB", registry=registry)
    assert device.native is native
    assert (device.info.backend, device.options.budget) == ("one", MIB)


@pytest.mark.parametrize("backend", ["auto", "one:0"])
def test_adopting_takes_one_name(site, backend):
    with pytest.raises(UsageError, match="takes the name of one backend"):
        adopt_device(object(), backend, registry=registry_of(site.tiny("one")))


def test_a_backend_is_loaded_by_the_same_rules_and_nothing_is_opened(site, monkeypatch):
    registry = registry_of(site.tiny("one"), site.tiny("other"))
    plugin = load_backend("one:0", registry=registry)
    assert plugin.name == plugin.backend.name == "one"
    with pytest.raises(UsageError, match="name one backend"):
        load_backend("auto", registry=registry)
    monkeypatch.setenv("FORGE3D_DENY", "one")
    with pytest.raises(BackendDenied, match="deny list"):
        load_backend("one", registry=registry)


def test_lifecycle_hooks_hear_of_every_device_and_cannot_spoil_it(site, caplog):
    heard = []

    class Listener:
        @hookimpl
        def forge3d_backend(self):
            return site.tiny("listener")

        @hookimpl
        def forge3d_device_opened(self, device):
            heard.append(("opened", device.info.backend))

        @hookimpl
        def forge3d_device_closed(self, info):
            heard.append(("closed", info.backend))

    class Spoiler:
        @hookimpl
        def forge3d_backend(self):
            return site.tiny("spoiler")

        @hookimpl
        def forge3d_device_opened(self, device):
            raise RuntimeError("spoilt")

    registry = registry_of(lambda_device(site))
    registry.register(Spoiler(), "spoiler")
    registry.register(Listener(), "listener")
    registry.load("spoiler")
    registry.load("listener")
    device = open_device("one", registry=registry)
    assert heard == [("opened", "one")]
    assert "spoiler's forge3d_device_opened hook failed: RuntimeError: spoilt" in caplog.text
    device.close()
    assert heard == [("opened", "one"), ("closed", "one")]


def lambda_device(site):
    """Return a backend whose device settles its timeline's points when it closes."""

    class Timeline:
        def __init__(self):
            self.watchers = []

        def point(self, value):
            point = type("Point", (), {"value": value})()
            point.on_done = lambda callback: self.watchers.append(lambda: callback(point, None))
            return point

    backend = site.tiny("one")
    open_silent = backend.open

    def open_(selector="", options=None):
        device = open_silent(selector, options)
        timeline = Timeline()
        device.lanes = {"upload": type("Lane", (), {"timeline": timeline})()}
        device.close = lambda: [settle() for settle in timeline.watchers]
        return device

    backend.open = open_
    return backend


def test_a_decision_tells_all_without_opening(site, say):
    one, two = site.tiny("one", score=1), site.tiny("two", score=2)
    say("environment", "backend", "one:1")
    say("project", "backend", "two")
    decision = decide(Request.of(configuration()), registry_of(one, two))
    assert str(decision.chosen) == "one:1"
    assert decision.device is not None
    assert decision.device.name == "tiny 1"
    assert [str(c.value) for c in decision.request.overridden] == ["two"]
    assert decision.unasked == ("two",)
    assert [status.name for status in decision.statuses] == ["one"]
    assert one.opened == two.opened == []


def test_a_decision_without_a_word_ranks_everything(site):
    registry = registry_of(site.tiny("one", score=1), site.tiny("two", score=2))
    decision = decide(Request.of(configuration()), registry)
    assert [f"{info.backend}:{info.selector}" for info in decision.ranked] == [
        "two:0",
        "one:0",
        "two:1",
        "one:1",
    ]
    assert decision.unasked == ()
    assert str(decision.chosen) == "two:0"
