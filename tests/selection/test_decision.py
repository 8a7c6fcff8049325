"""What a decision tells, before anything opens."""

from __future__ import annotations

from forge3d_core.config import configuration
from forge3d_core.selection.decision import Request, decide

from .conftest import registry_of


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
