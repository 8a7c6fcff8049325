"""The values of a timeline, its points, and the tokens behind them."""

from __future__ import annotations

from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import KernelError, UsageError
from forge3d_core.timeline.timeline import Timeline

from .signals import Signals, Token, submit


def test_values_start_at_one_and_have_no_gaps(timeline: Timeline) -> None:
    assert (timeline.submitted, timeline.completed) == (0, 0)
    assert [timeline.enqueue(Token).value for _ in range(3)] == [1, 2, 3]
    assert timeline.submitted == 3


def test_a_submission_that_fails_takes_no_value(timeline: Timeline) -> None:
    def refuse() -> Any:
        raise KernelError("no")

    with pytest.raises(KernelError):
        timeline.enqueue(refuse)
    assert timeline.submitted == 0
    assert timeline.enqueue(Token).value == 1


def test_completed_grows_in_order_whatever_completes_first(timeline: Timeline) -> None:
    first, second, third = submit(timeline, 3)
    third.finish()
    second.finish()
    assert timeline.completed == 0
    assert not timeline.point(2).done
    first.finish()
    assert timeline.completed == 3
    assert [t.retired for t in (first, second, third)] == [1, 1, 1]


@pytest.mark.parametrize("value", [-1, 1.0, "1", None])
def test_a_point_is_a_number_from_zero(timeline: Timeline, value: Any) -> None:
    with pytest.raises(UsageError, match="value"):
        timeline.point(value)
    assert timeline.point(0).done


def test_points_are_values(timeline: Timeline, signals: Signals) -> None:
    assert timeline.point(3) == timeline.point(3) != timeline.point(4)
    assert timeline.point(3) != Timeline("compute", signals).point(3)


def test_tokens_for_the_device_to_wait_on(timeline: Timeline) -> None:
    first, second = submit(timeline, 2)
    assert timeline.token(2) is second
    first.finish()
    assert timeline.completed == 1
    assert timeline.token(0) is timeline.token(1) is None
    with pytest.raises(UsageError, match="not submitted yet"):
        timeline.token(3)
    timeline.fail(KernelError("bad"))
    assert timeline.token(1) is None
    with pytest.raises(KernelError):
        timeline.token(2)


def test_a_lane_that_no_caller_asks_keeps_few_tokens(device: AssembledDevice) -> None:
    timeline = device.lanes["compute"].timeline
    for _ in range(20):
        for _ in range(100):
            device.submit(device.command_list())
        device.driver.wait(timeline._pending[-1][1], 20.0)
    assert len(timeline._pending) <= 64 + 100
    assert timeline.last_known >= 1800
