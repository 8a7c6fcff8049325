"""Pipelines that lose the thread: buffers, dependencies, reports, orders and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import UsageError
from forge3d_core.pipeline import (
    AsyncCoordinator,
    BufferState,
    Completion,
    PipelineStageManager,
    PipelineStats,
    TripleBuffer,
    TripleSlot,
    stream,
)
from forge3d_core.protocols import FencePoint


class HastyTripleBuffer(TripleBuffer):
    def _reclaim(self) -> None:
        for slot in tuple(self._leaving):
            slot.point = None
        super()._reclaim()


@mutant(
    "pipeline.free-too-early",
    breaks="pipeline.states",
    because="free while the device has yet to read it",
    requires=("hold",),
)
class FreeTooEarly(Layer):
    """A buffer that was given up is free although the device still reads it."""

    SYSTEMS: ClassVar = {TripleBuffer: HastyTripleBuffer}


class EagerTripleBuffer(TripleBuffer):
    def _take(self, source: Any, target: Any) -> TripleSlot | None:
        if source:
            source[0].ready = True
        return super()._take(source, target)


@mutant(
    "pipeline.takes-unsubmitted",
    breaks="pipeline.states",
    because="that is not submitted went on|in .* hands|a stage of a triple buffer did not",
)
class TakesUnsubmitted(Layer):
    """The next stage takes a buffer before the work of the one that has it is submitted."""

    SYSTEMS: ClassVar = {TripleBuffer: EagerTripleBuffer}


class NewestFirst(TripleBuffer):
    def _take(self, source: Any, target: Any) -> TripleSlot | None:
        source.rotate(1)
        return super()._take(source, target)


@mutant("pipeline.newest-first", breaks="pipeline.states", because="gave .* and not")
class TakesTheNewest(Layer):
    """A stage takes the buffer that was filled last."""

    SYSTEMS: ClassVar = {TripleBuffer: NewestFirst}


class Stuck(TripleBuffer):
    def abandon(self, slot: TripleSlot) -> None:
        for queue in (self._filled, self._worked, self._read):
            if slot in queue:
                queue.remove(slot)
        slot.state = BufferState.PROCESSING


@mutant("pipeline.abandon-loses-it", breaks="pipeline.states", because="buffers are free of|after abandon")
class AbandonLosesIt(Layer):
    """A buffer whose stage failed does not come back."""

    SYSTEMS: ClassVar = {TripleBuffer: Stuck}


class FirstDependencyOnly(AsyncCoordinator):
    def _after(self, deps: Iterable[int]) -> Sequence[FencePoint]:
        return super()._after(deps)[:1]


@mutant(
    "pipeline.first-dependency-only",
    breaks="pipeline.deps",
    because="of what it depends on",
    requires=("hold", "concurrent_lanes"),
)
class OneDependency(Layer):
    """An operation waits for the first of what it depends on."""

    SYSTEMS: ClassVar = {AsyncCoordinator: FirstDependencyOnly}


class UploadsAtOnce(AsyncCoordinator):
    def _upload(self, data: Any, target: Any, after: Any, offset: int, timeout: float | None) -> FencePoint:
        return super()._upload(data, target, (), offset, timeout)


@mutant(
    "pipeline.upload-waits-for-none",
    breaks="pipeline.deps",
    because="upload ended before",
    requires=("hold", "concurrent_lanes"),
)
class UploadWaitsForNone(Layer):
    """An upload does not wait for what it depends on."""

    SYSTEMS: ClassVar = {AsyncCoordinator: UploadsAtOnce}


class Credulous(AsyncCoordinator):
    def _after(self, deps: Iterable[int]) -> Sequence[FencePoint]:
        found: list[FencePoint] = []
        for number in deps:
            try:
                found += super()._after([number])
            except UsageError:
                continue
        return found


@mutant("pipeline.unknown-dependency", breaks="pipeline.deps", because="nothing was raised where UsageError")
class UnknownDependency(Layer):
    """A dependency that there is not is passed over."""

    SYSTEMS: ClassVar = {AsyncCoordinator: Credulous}


class Repeats(AsyncCoordinator):
    told: list[Completion] | None = None

    def poll(self) -> list[Completion]:
        self.told, again = super().poll(), self.told or []
        return [*again[:1], *self.told]


@mutant("pipeline.poll-repeats", breaks="pipeline.poll", because="twice|again|told|poll reports")
class PollRepeats(Layer):
    """An operation is reported again by the next poll."""

    SYSTEMS: ClassVar = {AsyncCoordinator: Repeats}


class Forgets(AsyncCoordinator):
    def poll(self) -> list[Completion]:
        return [completion for completion in super().poll() if completion.op_id % 7]


@mutant("pipeline.poll-forgets", breaks="pipeline.poll", because="never reported|told")
class PollForgets(Layer):
    """Some operations are never reported."""

    SYSTEMS: ClassVar = {AsyncCoordinator: Forgets}


class Waits(AsyncCoordinator):
    def poll(self) -> list[Completion]:
        self.synchronize_all()
        return super().poll()


@mutant("pipeline.poll-waits", breaks="pipeline.poll", because="did not return while", requires=("hold",))
class PollWaits(Layer):
    """A poll waits for what is in flight."""

    SYSTEMS: ClassVar = {AsyncCoordinator: Waits}


class Pessimist(AsyncCoordinator):
    def poll(self) -> list[Completion]:
        told = super().poll()
        failed = any(completion.error is not None for completion in told)
        error = LookupError("another's") if failed else None
        return [attrs.evolve(each, error=each.error or error) for each in told]


@mutant(
    "pipeline.failure-spreads",
    breaks="pipeline.poisoned",
    because="depend on nothing that failed",
    requires=("driver",),
)
class FailureSpreads(Layer):
    """Once an operation failed, all others are reported to have failed as well."""

    SYSTEMS: ClassVar = {AsyncCoordinator: Pessimist}


class Optimist(AsyncCoordinator):
    def poll(self) -> list[Completion]:
        return [attrs.evolve(completion, error=None) for completion in super().poll()]


@mutant(
    "pipeline.failure-is-done",
    breaks="pipeline.poisoned",
    because="failed and is not reported so",
    requires=("driver",),
)
class FailureIsDone(Layer):
    """An operation that failed is reported to be done."""

    SYSTEMS: ClassVar = {AsyncCoordinator: Optimist}


class ForgetsState(PipelineStageManager):
    def _buffer(self, index: int, iteration: int) -> Any:
        found = super()._buffer(index, iteration)
        copies = self._memory[index]
        while len(copies) < 2:
            copies.append(self._coordinator.device.create_buffer(found.nbytes))
        return copies[iteration % len(copies)]


@mutant("pipeline.state-in-two-buffers", breaks="pipeline.same-answer", because="carries on")
class StateInTwoBuffers(Layer):
    """What an iteration carries to the next is in a buffer of each."""

    SYSTEMS: ClassVar = {PipelineStageManager: ForgetsState}


@mutant(
    "pipeline.counts-what-was-submitted",
    breaks="pipeline.stats",
    because="iterations have ended, of one",
    requires=("hold",),
)
class CountsSubmitted(Layer):
    """An iteration counts as soon as it is submitted."""

    class Counting(PipelineStageManager):
        def get_stats(self) -> PipelineStats:
            return attrs.evolve(super().get_stats(), iterations=self._ended + len(self._flying))

    SYSTEMS: ClassVar = {PipelineStageManager: Counting}


@mutant("pipeline.wrong-throughput", breaks="pipeline.stats", because="iterations of .* in all")
class WrongThroughput(Layer):
    """The throughput is that of a pipeline of depth one, times three."""

    class Boasting(PipelineStageManager):
        def get_stats(self) -> PipelineStats:
            stats = super().get_stats()
            return attrs.evolve(stats, throughput=3 * stats.throughput)

    SYSTEMS: ClassVar = {PipelineStageManager: Boasting}


@mutant("pipeline.reset-keeps", breaks="pipeline.stats", because="reset leaves")
class ResetKeeps(Layer):
    """A reset leaves the iterations that were counted."""

    class Keeping(PipelineStageManager):
        def reset_stats(self) -> None: ...

    SYSTEMS: ClassVar = {PipelineStageManager: Keeping}


@mutant("pipeline.sorted-order", breaks="pipeline.order", because="the order .* of stages")
class SortedOrder(Layer):
    """Stages run in the order in which they were added."""

    class Sorting(PipelineStageManager):
        def set_order(self, indices: Iterable[int]) -> None:
            super().set_order(sorted(indices))

    SYSTEMS: ClassVar = {PipelineStageManager: Sorting}


@mutant("pipeline.unknown-stage", breaks="pipeline.order", because="nothing was raised where UsageError")
class UnknownStage(Layer):
    """A stage that there is not is left out of the order."""

    class Lenient(PipelineStageManager):
        def set_order(self, indices: Iterable[int]) -> None:
            super().set_order([index for index in indices if 0 <= index < len(self._stages)])

    SYSTEMS: ClassVar = {PipelineStageManager: Lenient}


@mutant("pipeline.stale-result", breaks="pipeline.same-answer", because="iteration|frame")
class StaleResult(Layer):
    """Every fifth read shows what was read before it."""

    class Pool(Layer.Pool):
        turn = 0

        def read(self, source: Any, *args: Any, **region: Any) -> Any:
            counts = vars(self.layer)
            counts["turn"] = turn = counts.get("turn", 0) + 1
            if turn % 5 == 0:
                source = self.layer.lasting("Device")[0].target.create_buffer(source.nbytes)
            return self.real.read(source, *args, **region)


def _swapped(*args: Any, **kwargs: Any) -> Any:
    results = list(stream(*args, **kwargs))
    results[1], results[2] = results[2], results[1]
    return results


@mutant("pipeline.stream-out-of-order", breaks="pipeline.same-answer", because="frame 1 at depth")
class StreamOutOfOrder(Layer):
    """Two results of a stream change places."""

    SYSTEMS: ClassVar = {stream: _swapped}
