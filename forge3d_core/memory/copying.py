"""Host copies, on several threads when they are large."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.lifetime.guard import CallGuard

PARALLEL_BYTES = 1024**2
"""Below this a second thread costs more than it brings."""

MAX_THREADS = 8

T = TypeVar("T")


def default_threads() -> int:
    """Return how many threads copy at once: half the cores, 1 to 8.

    One thread moves 8 to 16 GB/s and a PCIe 5 link 55; four to eight keep up (docs, performance).
    """
    return max(1, min(MAX_THREADS, (os.cpu_count() or 1) // 2))


@attrs.define(eq=False)
class HostCopier:
    """Copies between arrays of equal shape; ``np.copyto`` on slices, which releases the GIL.

    However a copy ends, by an interrupt too, nobody writes to its target afterwards.

    Thread-safety: any thread. The pool of threads starts with the first large copy.
    """

    threads: int = attrs.field(factory=default_threads)
    gate: CallGuard = attrs.field(factory=CallGuard)
    _pool: ThreadPoolExecutor | None = attrs.field(default=None, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def copy(self, target: NDArray[Any], source: NDArray[Any]) -> None:
        """Copy ``source`` into ``target``; the arrays have the same shape and may be strided.

        Raises :class:`Closed` once the device is: one of the two may be memory that went with it.
        """
        with self.gate.passing():
            self._copy(target, source)

    def _copy(self, target: NDArray[Any], source: NDArray[Any]) -> None:
        parts = min(self.threads, target.nbytes // PARALLEL_BYTES, len(target) if target.ndim else 1)
        if parts < 2:
            np.copyto(target, source)
            return
        edges = [len(target) * i // parts for i in range(parts + 1)]
        heap = _Heap(deque((target[a:b], source[a:b]) for a, b in itertools.pairwise(edges)))
        try:
            with contextlib.suppress(RuntimeError):  # no thread can start, or the pool closes: do without
                for _ in range(parts - 1):
                    self._executor().submit(heap.aid)
            heap.work()
        finally:
            heap.close()

    async def aside(self, call: Callable[[], T]) -> T:
        """Return ``call()``, made on a thread of the copier's, cancelled or not."""
        try:
            future = self._executor().submit(call)
        except RuntimeError:  # no thread can start, or the copier closes
            return call()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Stop the threads; a later copy starts them again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max(1, self.threads - 1), "forge3d-copy")
            return self._pool


@attrs.define(eq=False)
class _Heap:
    """The parts of one copy, which its own thread and those that come to its aid take one by one.

    Who comes to its aid is at work before looking for a part. So once the heap is empty and nobody is
    at work, nobody will be, however many calls for aid are still on their way.
    """

    _parts: deque[tuple[NDArray[Any], NDArray[Any]]]
    _at_work: int = attrs.field(default=0, init=False)
    _failure: BaseException | None = attrs.field(default=None, init=False)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False)

    def work(self) -> None:
        """Copy what nobody has taken."""
        while self._parts:
            try:
                target, source = self._parts.popleft()
            except IndexError:
                return  # another thread took the last
            np.copyto(target, source)

    def aid(self) -> None:
        """Work on a thread other than the copy's own."""
        with self._changed:
            self._at_work += 1
        try:
            self.work()
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Wait until nobody writes any more, and raise what stopped one of those who did.

        An interrupt does not cut the wait short, as the target may go right after it.
        """
        self._parts.clear()
        while self._at_work:
            try:
                with self._changed:
                    self._changed.wait_for(lambda: not self._at_work)
            except BaseException as interrupt:
                self._failure = interrupt
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or it and this frame would keep each other, and with them the target
