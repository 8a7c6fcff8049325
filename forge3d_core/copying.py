"""Host copies, on several threads when they are large."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.gate import Gate

PARALLEL_BYTES = 1024**2
"""Below this a second thread costs more than it brings."""

MOST_THREADS = 8


def default_threads() -> int:
    """Return how many threads copy at once: half the cores, 1 to 8.

    One thread moves 8 to 16 GB/s and a PCIe 5 link 55; four to eight keep up (docs, performance).
    """
    return max(1, min(MOST_THREADS, (os.cpu_count() or 1) // 2))


@attrs.define(eq=False)
class HostCopier:
    """Copies between arrays of equal shape; ``np.copyto`` on slices, which releases the GIL.

    Thread-safety: any thread. The pool of threads starts with the first large copy.
    """

    threads: int = attrs.field(factory=default_threads)
    gate: Gate = attrs.field(factory=Gate)
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
        spans = [slice(a, b) for a, b in itertools.pairwise(edges)]
        pending = [self._executor().submit(np.copyto, target[s], source[s]) for s in spans[1:]]
        try:
            np.copyto(target[spans[0]], source[spans[0]])
        finally:
            for copy in pending:
                copy.result()

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
