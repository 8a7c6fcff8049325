"""Lists recorded on threads and submitted in order."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import UsageError
from forge3d_core.pipeline.recording import (
    RecordedTask,
    RecordingRun,
    analyze_threading_performance,
    record_on_threads,
)
from forge3d_core.protocols import CommandList


@pytest.mark.parametrize("workers", [1, 3])
def test_lists_are_submitted_in_the_stated_order(device: AssembledDevice, workers: int) -> None:
    buffer = device.create_buffer(16)
    turn = threading.Barrier(workers)

    def fills(value: int) -> Callable[[CommandList], object]:
        def record(commands: CommandList) -> None:
            if value < workers:
                turn.wait(20)  # so that every worker has one
            commands.fill(buffer, value, offset=0, nbytes=16 - value)

        return record

    run = record_on_threads(device, [fills(value) for value in range(12)], workers)
    assert [point.value for point in run.points] == list(range(1, 13))
    assert len({task.thread_id for task in run.tasks}) == workers
    with device.readback_pool() as pool:
        result = pool.read(buffer).wait()
    expected = np.zeros(16, np.uint8)
    for value in range(12):
        expected[: 16 - value] = value
    assert (result == expected).all()


def test_nothing_is_submitted_where_a_recorder_fails(device: AssembledDevice) -> None:
    buffer = device.create_buffer(16)

    def fails(_commands: CommandList) -> None:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        record_on_threads(device, [lambda commands: commands.fill(buffer, 1), fails])
    assert device.lanes["compute"].timeline.submitted == 0


def test_speed_up_efficiency_and_utilization() -> None:
    one = RecordingRun("sequential", 0.4, 1, tuple(RecordedTask(1, 0.1) for _ in range(4)), ())
    four = RecordingRun("4 threads", 0.2, 4, tuple(RecordedTask(n % 2, 0.1) for n in range(4)), ())
    analysis = analyze_threading_performance([one, four])
    assert analysis["sequential"].speedup == 1
    assert analysis["sequential"].utilization_percent == pytest.approx(100)
    figures = analysis["4 threads"]
    assert (figures.total_time_ms, figures.speedup, figures.efficiency_percent) == pytest.approx((200, 2, 50))
    assert (figures.threads_used, figures.theoretical_max_speedup) == (2, 4)
    assert figures.utilization_percent == pytest.approx(50)
    with pytest.raises(UsageError, match="sequential"):
        analyze_threading_performance([four])
