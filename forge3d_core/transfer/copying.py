"""Host copies, on several threads when they are large."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import attrs
from numpy.typing import NDArray

from forge3d_core.concurrency.loops import outcome
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.transfer.moving import MOVER
from forge3d_core.transfer.workers import CREW, Crew, Job

PARALLEL_BYTES = 1024**2
"""Below this a second thread costs more than it brings."""

PART_BYTES = 2 * 1024**2
"""What one thread copies at a time: more would leave threads idle at the end, less costs calls."""

INLINE_BYTES = 64 * 1024
"""Up to here a coroutine copies on its own loop; more would hold up the loop's other tasks."""

T = TypeVar("T")


@attrs.define(eq=False)
class HostCopier:
    """Copies between arrays of equal shape; ``np.copyto`` on slices, which releases the GIL.

    However a copy ends, no thread writes to its target afterwards.

    Thread-safety: any thread.
    """

    threads: int = attrs.field(
        factory=lambda: CREW.threads + 1
    )  # that copy at once, the calling one included
    gate: CallGuard = attrs.field(factory=CallGuard)
    crew: Crew = CREW

    def copy(self, target: NDArray[Any], source: NDArray[Any]) -> None:
        """Copy ``source`` into ``target``; the arrays have the same shape and may be strided.

        Raises :class:`Closed` once the device is: one of the two may be memory that went with it.
        """
        with self.gate.passing():
            self._copy(target, source)

    def _copy(self, target: NDArray[Any], source: NDArray[Any]) -> None:
        nbytes, length = target.nbytes, len(target) if target.ndim else 1
        threads = min(self.threads, nbytes // PARALLEL_BYTES, length)
        if threads < 2:
            MOVER.copy(target, source)
            return
        parts = min(max(threads, nbytes // PART_BYTES), length)
        numbers = itertools.count()

        def step() -> bool:
            part = next(numbers)
            if part >= parts:
                return False
            run = slice(length * part // parts, length * (part + 1) // parts)
            MOVER.copy(target[run], source[run])
            return True

        self.crew.share(step, threads - 1)

    async def aside(self, call: Callable[[], T]) -> T:
        """Return ``call()``, made by a worker."""
        return await aside(self.crew, call)


async def aside(crew: Crew, call: Callable[[], T], undo: Callable[[], object] | None = None) -> T:
    """Return ``call()``, made by a worker of ``crew``.

    ``undo`` is called if that raises, or if the wait is given up: in the thread that comes last, once
    no worker is in ``call`` nor will be.
    """
    future: Future[T] = Future()

    def step() -> bool:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
        return False

    try:
        if not crew.begin(Job(step, 1, brief=True)):
            step()  # no thread can start
        if not future.done():
            awaited = outcome()
            future.add_done_callback(lambda _future: awaited.settle(None))
            await awaited.over()
        return future.result()
    except BaseException:
        future.cancel()  # if it has not begun
        if undo is not None:
            future.add_done_callback(lambda _future: undo())
        raise
