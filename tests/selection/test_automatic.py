"""The automatic choice: the best device that opens, and what each of the others said."""

from __future__ import annotations

import attrs
import pytest

from forge3d_core.config import configuration
from forge3d_core.errors import (
    FenceTimeout,
    ForgeError,
    NoDevice,
    OutOfDeviceMemory,
    UsageError,
)
from forge3d_core.plugins import State
from forge3d_core.selection.decision import Request, decide
from forge3d_core.selection.select import open_device

from .conftest import refusing, registry_of


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


def test_when_nothing_opens_every_state_is_told(site, monkeypatch):
    monkeypatch.setenv("FORGE3D_DENY", "b")
    registry = registry_of(site.tiny("a", selectors=()), site.tiny("b"))
    with pytest.raises(NoDevice, match=r"a: unavailable; b: denied.*forge3d backends"):
        open_device(registry=registry)


def test_what_refused_is_told_apart_by_its_selector(site):
    registry = registry_of(refusing(site.tiny("a"), NoDevice("tiny is there and does not open")))
    with pytest.raises(NoDevice, match=r"a:0: tiny is there .*; a:1: tiny is there"):
        open_device(registry=registry)
