"""Stages and frames that overlap: the answers are those of one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_core.errors import UsageError
from forge3d_core.pipeline import (
    AsyncCoordinator,
    GpuPipelineStage,
    LaunchConfig,
    PipelineStageManager,
    stream,
)
from forge3d_core.protocols import Device

WORDS = 192
NBYTES = 4 * WORDS
LAUNCH = LaunchConfig((WORDS // 64, 1, 1), (64, 1, 1))

Words = NDArray[np.uint32]


def frame(number: int) -> Words:
    return np.arange(WORDS, dtype=np.uint32) * np.uint32(number + 1)


@contextmanager
def managed(bench: Bench, device: Device, depth: int) -> Iterator[PipelineStageManager]:
    with (
        bench.make(AsyncCoordinator, device) as coordinator,
        bench.make(PipelineStageManager, coordinator, depth=depth) as manager,
    ):
        yield manager


@pytest.mark.clause("pipeline.same-answer")
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_overlapping_iterations_give_the_same_answers(bench: Bench, depth: int) -> None:
    device = bench.open()
    mirror, increment = (device.create_kernel(bench.kernel(name)) for name in ("mirror", "increment"))
    seen: list[tuple[int, Words]] = []
    total = list[tuple[int, Words]]()
    with managed(bench, device, depth) as manager:
        loaded, worked, state = (manager.add_buffer(NBYTES) for _ in range(3))
        stages = [
            GpuPipelineStage.upload("load", frame, loaded),
            GpuPipelineStage("copy", mirror, [loaded], [worked], LAUNCH, (WORDS,)),
            GpuPipelineStage("add", increment, [worked], [], LAUNCH, (5, WORDS)),
            GpuPipelineStage("count", increment, [state], [], LAUNCH, (3, WORDS)),
            GpuPipelineStage.download("save", worked, lambda n, data: seen.append((n, data)), "u4"),
            GpuPipelineStage.download("sum", state, lambda n, data: total.append((n, data)), "u4"),
        ]
        manager.set_order([manager.add_stage(stage) for stage in stages])
        for _ in range(bench.scale(12, 300)):
            manager.execute_iteration()
        manager.synchronize(bench.patience)
    numbers = [number for number, _ in seen]
    bench.check(numbers == list(range(len(numbers))) and numbers, f"results came in the order {numbers}")
    for number, data in seen:
        bench.same(data, frame(number) + np.uint32(5), f"iteration {number} at depth {depth}")
    for number, data in total:
        wanted = np.full(WORDS, 3 * (number + 1), np.uint32)
        bench.same(data, wanted, f"what iteration {number} carries on, at depth {depth}")


@pytest.mark.clause("pipeline.same-answer")
@pytest.mark.parametrize("depth", [1, 3])
def test_streamed_frames_come_in_order_with_their_own_results(bench: Bench, depth: int) -> None:
    device = bench.open()
    increment = device.create_kernel(bench.kernel("increment"))
    frames = bench.scale(9, 200)
    results = bench.make(
        stream,
        device,
        (frame(number) for number in range(frames)),
        increment,
        depth=depth,
        threads=WORDS,
        params=(7, WORDS),
    )
    got = list(results)
    bench.check(len(got) == frames, f"{len(got)} results of {frames} frames")
    for number, data in enumerate(got):
        bench.same(data, frame(number) + np.uint32(7), f"frame {number} at depth {depth}")


@pytest.mark.clause("pipeline.order")
def test_stages_run_in_the_order_that_was_set(bench: Bench) -> None:
    device = bench.open()
    mirror, increment = (device.create_kernel(bench.kernel(name)) for name in ("mirror", "increment"))
    seen: list[Words] = []
    with managed(bench, device, 2) as manager:
        loaded, worked = (manager.add_buffer(NBYTES) for _ in range(2))
        load, copy, add, save = (
            manager.add_stage(stage)
            for stage in (
                GpuPipelineStage.upload("load", frame, loaded),
                GpuPipelineStage("copy", mirror, [loaded], [worked], LAUNCH, (WORDS,)),
                GpuPipelineStage("add", increment, [loaded], [], LAUNCH, (5, WORDS)),
                GpuPipelineStage.download("save", worked, lambda _number, data: seen.append(data), "u4"),
            )
        )
        number = 0
        for order, more in (
            ([load, copy, add, save], 0),
            ([load, add, copy, save], 5),
            ([load, add, add, copy, save], 10),
            ([load, copy, save], 0),
        ):
            manager.set_order(order)
            for unknown in ([load, save + 1], [-1], [load, copy, 99]):
                with bench.raises(UsageError, f"an order of stages {unknown}, of four"):
                    manager.set_order(unknown)
            for _ in range(3):
                manager.execute_iteration()
            manager.synchronize(bench.patience)
            bench.check(len(seen) == 3, f"three iterations of the order {order} gave {len(seen)} results")
            for data in seen:
                bench.same(data, frame(number) + np.uint32(more), f"the order {order} of stages")
                number += 1
            seen.clear()


@contextmanager
def counting(bench: Bench, device: Device) -> Iterator[PipelineStageManager]:
    """Yield a pipeline of one stage, which adds to what the iterations carry."""
    increment = device.create_kernel(bench.kernel("increment"))
    with managed(bench, device, 3) as manager:
        state = manager.add_buffer(NBYTES)
        manager.set_order(
            [manager.add_stage(GpuPipelineStage("add", increment, [state], [], LAUNCH, (1, WORDS)))]
        )
        yield manager


@pytest.mark.clause("pipeline.stats")
def test_statistics_agree_with_what_ran(bench: Bench) -> None:
    device = bench.open()
    with counting(bench, device) as manager:
        bench.check(manager.get_stats().iterations == 0, "iterations are counted before any ran")
        for iterations in (1, 7, bench.scale(20, 500)):
            begun = time.perf_counter()
            for _ in range(iterations):
                manager.execute_iteration()
            manager.synchronize(bench.patience)
            most = 1e3 * (time.perf_counter() - begun)
            stats = manager.get_stats()
            told = f"{iterations} iterations of {most:.2f} ms in all: {stats}"
            bench.check(stats.iterations == iterations, told)
            bench.check(0 < stats.avg_iteration_ms * iterations <= most * 1.001, told)
            bench.check(abs(stats.throughput * stats.avg_iteration_ms - 1e3) < 1, told)
            bench.check(stats.gpu_utilization is None or 0 <= stats.gpu_utilization <= 1, told)
            manager.reset_stats()
            bench.check(manager.get_stats().iterations == 0, f"reset leaves {manager.get_stats()}")


@pytest.mark.clause("pipeline.stats", requires=("hold",))
def test_an_iteration_counts_when_it_has_ended(bench: Bench) -> None:
    device = bench.open()
    with counting(bench, device) as manager:
        manager.execute_iteration()
        manager.synchronize(bench.patience)
        with bench.hold(device, "compute", 0.2) as hold:
            manager.execute_iteration()
            manager.execute_iteration()
            counted = hold.observe(manager.get_stats).iterations
            bench.check(counted == 1, f"{counted} iterations have ended, of one and two that are held")
        manager.synchronize(bench.patience)
        counted = manager.get_stats().iterations
        bench.check(counted == 3, f"{counted} iterations have ended, of three")
