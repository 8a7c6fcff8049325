"""Selection: precedence, no fallback, options, rules of loading."""

from __future__ import annotations

import sys
from itertools import combinations

import pytest

from forge3d_core.errors import (
    BackendDenied,
    ConfigError,
    MissingDependency,
    NoDevice,
    PluginFailed,
    UnknownBackend,
    UsageError,
)
from forge3d_core.plugins import BackendSpec
from forge3d_core.selection.select import adopt_device, load_backend, open_device
from forge3d_core.units import MIB

from .conftest import refusing, registry_of

SOURCES = ("argument", "environment", "project", "user", "automatic")


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


def test_what_is_no_device_is_refused(site):
    one = site.tiny("one")
    one.open = lambda *_args: "a device, honestly"
    with pytest.raises(PluginFailed, match="not a device"):
        open_device("one", registry=registry_of(one))


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
