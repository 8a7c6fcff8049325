"""Stages that run again and again, consecutive iterations overlapping."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import at_least, integer, sequence, shown
from forge3d_core.deadline import Deadline
from forge3d_core.errors import Closed, FenceTimeout, ForgeError, StateError, UsageError
from forge3d_core.pipeline.coordinator import AsyncCoordinator
from forge3d_core.pipeline.stages import GpuPipelineStage, Sink, carried
from forge3d_core.presentation import Figures, counted, line
from forge3d_core.protocols import Buffer
from forge3d_core.units import parse_bytes

DEFAULT_DEPTH = 3


@attrs.frozen
class PipelineStats(Figures):
    """Of the iterations that have ended since the last reset. Source: async pipeline guide.

    Iterations overlap, so ``avg_iteration_ms`` is the time from one's end to the next's, on average: the
    time from the first begin to the last end, divided by ``iterations``.
    """

    iterations: int
    avg_iteration_ms: float
    throughput: float  # iterations a second
    gpu_utilization: float | None  # 0 to 1, measured on the device; None where it has no timestamps

    def __repr__(self) -> str:
        return line(
            f"pipeline stats: {counted(self.iterations, 'iteration')}",
            f"{self.avg_iteration_ms:.3g} ms each",
            f"{self.throughput:.4g}/s",
        )


@attrs.define(eq=False)
class _Iteration:
    """One iteration in flight: the operations to wait for, and what to hand to which sink."""

    number: int
    operations: list[int] = attrs.field(factory=list)
    results: list[tuple[int, Sink, NDArray[Any]]] = attrs.field(factory=list)


class PipelineStageManager:
    """Runs stages in a stated order, iteration after iteration, up to ``depth`` of them at once.

    What overlaps is found from the buffers: one that an iteration writes before it reads it exists ``depth``
    times, and each iteration has its own; one that carries state from an iteration to the next exists once,
    and the device keeps the order. Results are the same as one after the other, bit for bit. Memory is
    ``depth`` × the buffers, whatever the number of iterations.

    Thread-safety: one thread at a time runs iterations; the statistics may be asked for from any. Sinks are
    called on the thread that runs. Source: async pipeline guide, "PipelineStageManager".
    """

    def __init__(self, coordinator: AsyncCoordinator, *, depth: int = DEFAULT_DEPTH) -> None:
        self._coordinator = coordinator
        self._depth = at_least(1, "depth", depth)
        self._sizes: list[int] = []
        self._stages: list[GpuPipelineStage] = []
        self._order: tuple[int, ...] = ()
        self._memory: dict[int, list[Buffer]] = {}
        self._flying: deque[_Iteration] = deque()
        self._number = 0
        self._lock = threading.Lock()
        self._ended, self._begun, self._last_end = 0, 0.0, 0.0
        self._closed = False

    def coordinator(self) -> AsyncCoordinator:
        """Return the coordinator that the stages are queued on."""
        return self._coordinator

    def add_buffer(self, nbytes: int | str) -> int:
        """Declare a buffer and return its index, which stages name; zeroed, and made when first used."""
        self._check()
        self._sizes.append(parse_bytes(nbytes))
        return len(self._sizes) - 1

    def add_stage(self, stage: GpuPipelineStage) -> int:
        """Add a stage and return its index, for :meth:`set_order`. Raises for a buffer that there is not."""
        self._check()
        if not isinstance(stage, GpuPipelineStage):
            raise UsageError(f"a stage is a GpuPipelineStage, not {shown(stage)}")
        for buffer in stage.bound:
            if not 0 <= buffer < len(self._sizes):
                raise UsageError(
                    f"stage {stage.name!r} names buffer {buffer}; there are {len(self._sizes)}, from 0: "
                    "add_buffer declares one"
                )
        self._stages.append(stage)
        return len(self._stages) - 1

    def set_order(self, indices: Iterable[int]) -> None:
        """Set the order in which the stages of an iteration run. Raises for a stage that there is not.

        Ends the iterations in flight first, if there are any. A new order begins with zeroed buffers.
        """
        order = tuple(integer("the index of a stage", each) for each in sequence("an order", indices))
        for each in order:
            if not 0 <= each < len(self._stages):
                raise UsageError(f"no stage {each}; there are {len(self._stages)}, from 0")
        self.synchronize()
        self._order = order
        self._release()

    def execute_iteration(self) -> int:
        """Submit all stages once and return the iteration's number, from 0.

        Waits for the oldest iteration where ``depth`` are in flight, and hands its results to their sinks.
        Raises what a stage raises, with a note that names it; iterations before it go on.
        """
        self._check()
        if not self._order:
            raise StateError("no order: set_order names the stages that an iteration runs")
        while len(self._flying) >= self._depth:
            self._finish()
        iteration = _Iteration(self._number)
        if not self._ended and not self._flying:
            self._begun = time.perf_counter()
        for index in self._order:
            stage = self._stages[index]
            try:
                self._queue(stage, iteration)
            except Exception as error:
                error.add_note(f"in stage {stage.name!r} of iteration {iteration.number}")
                raise
        self._number += 1
        self._flying.append(iteration)
        return iteration.number

    def synchronize(self, timeout: float | None = None) -> None:
        """Wait for all iterations in flight and hand their results to their sinks, in order, each once.

        Raises :class:`FenceTimeout`, after which the rest is still in flight; and what made an iteration fail
        or a sink raised: that iteration is over, and the next call goes on with the one behind it.
        """
        deadline = Deadline.after(timeout)
        while self._flying:
            self._finish(deadline)

    def get_stats(self) -> PipelineStats:
        """Return the figures of the iterations that have ended."""
        with self._lock:
            ended, seconds = self._ended, self._last_end - self._begun
        return PipelineStats(
            iterations=ended,
            avg_iteration_ms=1e3 * seconds / ended if ended else 0.0,
            throughput=ended / seconds if ended and seconds > 0 else 0.0,
            gpu_utilization=None,
        )

    def reset_stats(self) -> None:
        """Forget what has ended; time counts from now."""
        with self._lock:
            self._ended, self._begun = 0, time.perf_counter()

    def close(self) -> None:
        """Drop what is in flight and give the buffers back when the device is done; idempotent."""
        self._closed = True
        self._flying.clear()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            if exc_info[0] is None:
                self.synchronize()

    def __repr__(self) -> str:
        return line(
            f"pipeline of {counted(len(self._stages), 'stage')}",
            f"{len(self._flying)} of {self._depth} iterations in flight",
        )

    def _queue(self, stage: GpuPipelineStage, iteration: _Iteration) -> None:
        buffers = [self._buffer(index, iteration.number) for index in stage.bound]
        if stage.source is not None:
            operation = self._coordinator.queue_upload(stage.source(iteration.number), buffers[0])
        elif stage.kernel is not None:
            operation = self._coordinator.queue_compute(
                stage.kernel, buffers=buffers, params=stage.params, threads=stage.config.threads
            )
        else:
            assert stage.sink is not None
            if stage.into is not None:
                result = stage.into(iteration.number)
                if (given := getattr(result, "nbytes", None)) != buffers[0].nbytes:
                    raise UsageError(f"into= gave {given} bytes for a buffer of {buffers[0].nbytes}")
            elif buffers[0].nbytes % stage.dtype.itemsize:
                raise UsageError(f"{buffers[0].nbytes} bytes are no whole number of {stage.dtype}")
            else:
                result = np.empty(buffers[0].nbytes // stage.dtype.itemsize, stage.dtype)
            operation = self._coordinator.queue_download(buffers[0], result)
            iteration.results.append((operation, stage.sink, result))
        iteration.operations.append(operation)

    def _finish(self, deadline: Deadline | None = None) -> None:
        """End the oldest iteration in flight."""
        iteration = self._flying[0]
        try:
            for operation in iteration.operations:
                self._coordinator.wait(operation, deadline.timeout if deadline is not None else None)
        except FenceTimeout:
            raise
        except ForgeError:
            self._flying.popleft()
            raise
        self._flying.popleft()
        with self._lock:
            self._ended, self._last_end = self._ended + 1, time.perf_counter()
        for _, sink, result in iteration.results:
            sink(iteration.number, result)

    def _buffer(self, index: int, iteration: int) -> Buffer:
        copies = self._memory.get(index)
        if copies is None:
            stages = [self._stages[each] for each in self._order]
            count = 1 if carried(stages, index) else self._depth
            copies = self._memory[index] = []
            for number in range(count):
                label = f"pipeline buffer {index}.{number}"
                copies.append(self._coordinator.device.create_buffer(self._sizes[index], label=label))
        return copies[iteration % len(copies)]

    def _release(self) -> None:
        memory, self._memory = self._memory, {}
        for copies in memory.values():
            for buffer in copies:
                buffer.close()

    def _check(self) -> None:
        if self._closed:
            raise Closed("this pipeline was closed; make another")
