"""Fences: how anybody learns that the device has finished."""

from __future__ import annotations

import pytest

from forge3d_conformance.bench import Bench
from forge3d_core.errors import FenceTimeout
from forge3d_core.protocols import FencePoint, Timeline


def done(point: FencePoint) -> bool:
    return point.done


def completed(timeline: Timeline) -> int:
    return timeline.completed


@pytest.mark.clause("fence.not-early")
def test_nothing_behind_a_hold_is_complete(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(256)
    timeline = device.lanes["compute"].timeline
    with bench.hold(device, "compute") as hold:
        points = [device.submit(device.command_list().fill(buffer, i)) for i in range(3)]
        for point in points:
            bench.check(not hold.observe(done, point), "a point behind a held lane says done")
            bench.check(hold.observe(completed, timeline) < point.value, "completed ran past a held lane")
            with bench.raises(FenceTimeout, "a wait behind a held lane"):
                hold.observe(point.wait, 0.01)
    for point in points:
        bench.wait(point)
