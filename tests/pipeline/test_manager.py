"""Stages that run again and again: the same answers as one after the other, overlapping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, FenceTimeout, StateError, UsageError
from forge3d_core.pipeline import (
    AsyncCoordinator,
    GpuPipelineStage,
    LaunchConfig,
    ManagedGpuContext,
    PipelineStageManager,
    StepConfig,
)
from forge3d_core.protocols import Kernel

WORDS, NBYTES = 64, 256
ONE_GROUP = LaunchConfig((1, 1, 1), (64, 1, 1))


@pytest.fixture
def coordinator(device: AssembledDevice) -> Any:
    with AsyncCoordinator(device) as made:
        yield made


@pytest.fixture
def manager(coordinator: AsyncCoordinator) -> Any:
    with PipelineStageManager(coordinator) as made:
        yield made


def words(value: int) -> NDArray[np.uint32]:
    return np.full(WORDS, value, np.uint32)


def keep_first(seen: list[int]) -> Callable[[int, NDArray[Any]], None]:
    return lambda _number, array: seen.append(int(array[0]))


def test_iterations_overlap_and_give_the_same_answers(
    device: AssembledDevice, manager: PipelineStageManager, double: Kernel
) -> None:
    frame, result = manager.add_buffer(NBYTES), manager.add_buffer(NBYTES)
    seen: list[tuple[int, int]] = []
    stages = [
        manager.add_stage(GpuPipelineStage.upload("load", words, frame)),
        manager.add_stage(GpuPipelineStage("double", double, [frame], [result], ONE_GROUP)),
        manager.add_stage(
            GpuPipelineStage.download("save", result, lambda n, array: seen.append((n, int(array[0]))), "u4")
        ),
    ]
    manager.set_order(stages)
    with device.driver.hold("compute"):
        assert [manager.execute_iteration() for _ in range(3)] == [0, 1, 2]  # the fourth would wait
        assert device.lanes["upload"].timeline.point(3).wait(20) is None  # uploads ran ahead
    for _ in range(97):
        manager.execute_iteration()
    manager.synchronize()
    assert seen == [(n, 2 * n) for n in range(100)]
    stats = manager.get_stats()
    assert stats.iterations == 100
    assert stats.avg_iteration_ms > 0
    assert stats.throughput == pytest.approx(1e3 / stats.avg_iteration_ms)
    assert stats.gpu_utilization is None  # not measured, so not told
    manager.reset_stats()
    assert manager.get_stats().iterations == 0


def test_state_is_carried_from_one_iteration_to_the_next(
    manager: PipelineStageManager, accumulate: Kernel
) -> None:
    frame, total = manager.add_buffer(NBYTES), manager.add_buffer(NBYTES)
    seen: list[int] = []
    manager.set_order(
        [
            manager.add_stage(GpuPipelineStage.upload("load", words, frame)),
            manager.add_stage(GpuPipelineStage("sum", accumulate, [frame, total], (), ONE_GROUP)),
            manager.add_stage(GpuPipelineStage.download("save", total, keep_first(seen), "u4")),
        ]
    )
    for _ in range(20):
        manager.execute_iteration()
    manager.synchronize()
    assert seen == [n * (n + 1) // 2 for n in range(20)]


def test_the_order_is_obeyed_and_may_leave_stages_out(
    manager: PipelineStageManager, add: Kernel, accumulate: Kernel
) -> None:
    data, total = manager.add_buffer(NBYTES), manager.add_buffer(NBYTES)
    seen: list[int] = []
    more = manager.add_stage(GpuPipelineStage("more", add, [data], (), ONE_GROUP, params=(1,)))
    keep = manager.add_stage(GpuPipelineStage("keep", accumulate, [data, total], (), ONE_GROUP))
    save = manager.add_stage(GpuPipelineStage.download("save", total, keep_first(seen), "u4"))
    for order in ([more, keep, save], [keep, more, save], [save]):
        manager.set_order(order)
        manager.execute_iteration()
        manager.execute_iteration()
        manager.synchronize()
    assert seen == [1, 3, 0, 1, 0, 0]  # a new order begins with zeros


@pytest.mark.parametrize("order", [[1], [-1], [0, 2], ["a"], [0.0], 3])
def test_an_order_of_stages_that_are_not_there(
    manager: PipelineStageManager, add: Kernel, order: Any
) -> None:
    manager.add_stage(GpuPipelineStage("more", add, [manager.add_buffer(NBYTES)], params=(1,)))
    with pytest.raises(StateError):
        manager.execute_iteration()
    with pytest.raises(UsageError):
        manager.set_order(order)


def test_a_stage_that_fails_is_named(manager: PipelineStageManager) -> None:
    buffer = manager.add_buffer(NBYTES)

    def source(number: int) -> NDArray[np.uint32]:
        return words(number) if number != 2 else np.zeros(100, np.uint32)

    manager.set_order([manager.add_stage(GpuPipelineStage.upload("load", source, buffer))])
    manager.execute_iteration()
    manager.execute_iteration()
    with pytest.raises(UsageError) as raised:
        manager.execute_iteration()
    assert raised.value.__notes__ == ["in stage 'load' of iteration 2"]
    manager.synchronize()
    assert manager.get_stats().iterations == 2


def test_a_sink_that_raises_gets_each_result_once(manager: PipelineStageManager) -> None:
    buffer, seen = manager.add_buffer(NBYTES), []

    def sink(number: int, _array: NDArray[Any]) -> None:
        seen.append(number)
        if number == 1:
            raise ArithmeticError("no good")

    manager.set_order(
        [
            manager.add_stage(GpuPipelineStage.upload("load", words, buffer)),
            manager.add_stage(GpuPipelineStage.download("save", buffer, sink, "u4")),
        ]
    )
    for _ in range(3):
        manager.execute_iteration()
    with pytest.raises(ArithmeticError):
        manager.synchronize()
    manager.synchronize()
    assert seen == [0, 1, 2]
    assert manager.get_stats().iterations == 3


def test_a_wait_that_ends_leaves_the_rest_in_flight(
    device: AssembledDevice, manager: PipelineStageManager
) -> None:
    buffer, seen = manager.add_buffer(NBYTES), []
    manager.set_order(
        [
            manager.add_stage(GpuPipelineStage.upload("load", words, buffer)),
            manager.add_stage(GpuPipelineStage.download("save", buffer, keep_first(seen), "u4")),
        ]
    )
    with device.driver.hold("download"):
        manager.execute_iteration()
        with pytest.raises(FenceTimeout):
            manager.synchronize(0.01)
    manager.synchronize()
    assert seen == [0]


def test_wrong_stages(manager: PipelineStageManager, add: Kernel, double: Kernel) -> None:
    with pytest.raises(UsageError, match="one of the three"):
        GpuPipelineStage("nothing")
    with pytest.raises(UsageError, match="binds 2"):
        GpuPipelineStage("double", double, [0])
    with pytest.raises(UsageError, match="uploads to one"):
        GpuPipelineStage("load", source=words)
    with pytest.raises(UsageError, match="downloads one"):
        GpuPipelineStage("save", sink=lambda *_: None, input_buffers=(0, 1))
    with pytest.raises(UsageError, match="add_buffer"):
        manager.add_stage(GpuPipelineStage("more", add, [0], params=(1,)))
    with pytest.raises(UsageError, match="not portable"):
        LaunchConfig(shared_mem_bytes=4096)
    assert LaunchConfig((16, 1, 1), (256, 1, 1)).threads == (4096, 1, 1)


def test_closed_gives_its_buffers_back(device: AssembledDevice, coordinator: AsyncCoordinator) -> None:
    before = device.budget.metrics().device_local_bytes
    with PipelineStageManager(coordinator, depth=2) as manager:
        buffer = manager.add_buffer(NBYTES)
        manager.set_order([manager.add_stage(GpuPipelineStage.upload("load", words, buffer))])
        manager.execute_iteration()
        assert device.budget.metrics().device_local_bytes > before
    assert device.budget.metrics().device_local_bytes == before
    with pytest.raises(Closed):
        manager.execute_iteration()


def test_steps_return_the_frame_that_left(device: AssembledDevice, add: Kernel) -> None:
    with ManagedGpuContext(device) as context:
        results: list[Any] = []
        for number in range(6):
            out = words(0)
            step = context.triple_buffered_step(StepConfig(words(number), add, WORDS, out, params=(10,)))
            assert step.step == number
            results.append(step.result)
        results += context.finish_steps()
        assert results[:3] == [None, None, None]
        assert [int(result[0]) for result in results[3:]] == [10 + number for number in range(6)]
        before = device.budget.metrics().device_local_bytes
        large = np.zeros(4 * WORDS, np.uint32)
        context.triple_buffered_step(StepConfig(large, add, WORDS, large, params=(1,)))
        context.finish_steps()
        device.wait_idle()
        assert device.budget.metrics().device_local_bytes == 4 * before  # the smaller ones went
        assert context.async_coordinator() is context.async_coordinator_mut()
        assert context.device() is device
        assert context.create_pipeline_manager().coordinator() is context.async_coordinator()
    with ManagedGpuContext(device, enable_streams=False) as context:
        assert context.async_coordinator() is None
        with pytest.raises(StateError, match="enable_streams"):
            context.create_pipeline_manager()


def test_results_go_where_into_says(manager: PipelineStageManager) -> None:
    frame, seen = manager.add_buffer(NBYTES), list[Any]()
    outs = [words(0) for _ in range(3)]
    stages = [
        GpuPipelineStage.upload("load", words, frame),
        GpuPipelineStage.download(
            "save", frame, lambda _number, array: seen.append(array), into=lambda number: outs[number % 3]
        ),
    ]
    manager.set_order([manager.add_stage(stage) for stage in stages])
    for number in range(7):
        manager.execute_iteration()
        manager.synchronize()
        assert seen[-1] is outs[number % 3]
        assert (outs[number % 3] == number).all()


def test_into_is_as_large_as_the_buffer_and_of_a_download(
    manager: PipelineStageManager, double: Kernel
) -> None:
    frame, other = manager.add_buffer(NBYTES), manager.add_buffer(NBYTES)
    stage = GpuPipelineStage.download("save", frame, lambda *_: None, into=lambda _number: words(0)[1:])
    manager.set_order([manager.add_stage(stage)])
    with pytest.raises(UsageError, match="into= gave 252 bytes for a buffer of 256"):
        manager.execute_iteration()
    with pytest.raises(UsageError, match="into=, which is for a download"):
        GpuPipelineStage("double", double, [frame], [other], ONE_GROUP, into=lambda _number: words(0))
