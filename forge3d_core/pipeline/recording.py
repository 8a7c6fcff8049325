"""Command lists recorded on several threads, submitted in one order, and what the threads bring."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs

from forge3d_core.arguments import at_least
from forge3d_core.errors import UsageError
from forge3d_core.pipeline.coordinator import lane_of
from forge3d_core.presentation import Figures, counted, line
from forge3d_core.protocols import CommandList, Device, FencePoint

Recorder = Callable[[CommandList], object]


@attrs.frozen
class RecordedTask:
    """One list: where it was recorded, and how long that took in seconds."""

    thread_id: int
    seconds: float


@attrs.frozen(eq=False)
class RecordingRun:
    """One run of :func:`record_on_threads`; ``points`` are in the stated order. Times in seconds."""

    mode: str
    total_time: float
    max_workers: int
    tasks: tuple[RecordedTask, ...]
    points: tuple[FencePoint, ...] = attrs.field(repr=False)


@attrs.frozen
class ThreadingAnalysis(Figures):
    """One mode against the sequential one. Source: async operations guide, threading analysis."""

    total_time_ms: float
    speedup: float  # how many times faster than the baseline
    efficiency_percent: float  # the speed-up for each worker
    threads_used: int
    theoretical_max_speedup: int
    utilization_percent: float  # of the workers' time, spent recording

    def __repr__(self) -> str:
        return line(
            f"{self.total_time_ms:.3g} ms",
            f"{self.speedup:.2f} x",
            f"{counted(self.threads_used, 'thread')}, {self.utilization_percent:.0f} % used",
        )


def record_on_threads(
    device: Device, recorders: Sequence[Recorder], max_workers: int = 4, *, lane: str | None = None
) -> RecordingRun:
    """Call each of ``recorders`` with a list of its own, on threads, and submit the lists in their order.

    ``max_workers=1`` records on the calling thread: the baseline. Nothing is submitted unless all recorders
    succeed; the first error, in their order, is raised. ``lane`` is by default that for computations.
    """
    workers = at_least(1, "max_workers", max_workers)
    lists = [device.command_list(label=f"task {number}") for number in range(len(recorders))]

    def record(number: int) -> RecordedTask:
        begun = time.perf_counter()
        recorders[number](lists[number])
        return RecordedTask(threading.get_ident(), time.perf_counter() - begun)

    begun = time.perf_counter()
    if workers == 1:
        tasks = [record(number) for number in range(len(recorders))]
    else:
        with ThreadPoolExecutor(workers, "forge3d-record") as pool:
            tasks = list(pool.map(record, range(len(recorders))))
    name = lane or lane_of(device, "compute").name
    points = tuple(device.submit(commands, lane=name) for commands in lists)
    mode = "sequential" if workers == 1 else f"{workers} threads"
    return RecordingRun(mode, time.perf_counter() - begun, workers, tuple(tasks), points)


def analyze_threading_performance(results: Iterable[RecordingRun]) -> dict[str, ThreadingAnalysis]:
    """Compare runs with the sequential one among them, by mode; a later run of a mode counts.

    Raises :class:`UsageError` without a sequential run: there is nothing to compare with.
    """
    runs = {run.mode: run for run in results}
    baseline = next((run for mode, run in runs.items() if "sequential" in mode), None)
    if baseline is None:
        raise UsageError("no sequential run to compare with; record_on_threads(..., max_workers=1) is one")
    analysis = {}
    for mode, run in runs.items():
        speedup = baseline.total_time / run.total_time
        busy = sum(task.seconds for task in run.tasks)
        analysis[mode] = ThreadingAnalysis(
            total_time_ms=1e3 * run.total_time,
            speedup=speedup,
            efficiency_percent=100 * speedup / run.max_workers,
            threads_used=len({task.thread_id for task in run.tasks}),
            theoretical_max_speedup=run.max_workers,
            utilization_percent=100 * busy / (run.total_time * run.max_workers),
        )
    return analysis
