"""The memory of large results, used again where the caller has let go of it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.lifetime.hold import Reference
from forge3d_core.readback.region import Region
from forge3d_core.transfer.pages import fresh_memory
from forge3d_core.units import align_up

REUSED_BYTES = 256 * 1024
"""From here on fresh pages cost more than the copy into them."""

KEPT_BYTES = 64 * 1024**2
"""How much a pool knows of at once, unless two results are larger."""

STEP = 64 * 1024


class _Shown(Reference):
    """Refers to what stands for memory that arrays of a caller show; has the memory, for the next result."""

    __slots__ = ("memory",)
    memory: NDArray[np.uint8]


class Results:
    """Makes the arrays that reads land in.

    A large result is an array over a memoryview of an *inner* array, to which it and all that is derived
    from it lead: views, memoryviews, ctypes and DLPack objects, iterators. Once the inner array is gone,
    nothing reaches its memory, and a later result of the same size shows it, overwritten entirely first. A
    weak reference with ``deque.append`` as its callback tells, so no code of ours runs in a finalizer.

    What is known, shown or idle, is at most ``KEPT_BYTES``, or two results; what is known longest is
    forgotten first, and then goes as any array's memory does.

    Thread-safety: any thread.
    """

    def __init__(self) -> None:
        self.reused = 0  # results in memory of earlier ones
        self._known: dict[_Shown, None] = {}  # oldest first
        self._idle: deque[_Shown] = deque()  # of those, what is reached no more
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """The bytes that are kept for later results."""
        return sum([shown.memory.nbytes for shown in self._idle.copy()])

    def array(self, region: Region) -> NDArray[Any]:
        """Return an array for the bytes of ``region``, to be overwritten entirely before it is shown."""
        memory = self._memory(align_up(region.nbytes, STEP))
        inner = memory[: region.nbytes]
        shown = _Shown(inner, self._idle.append)
        shown.memory = memory
        with self._lock:
            self._known[shown] = None
        return np.frombuffer(inner.data, region.dtype).reshape(region.shape)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._known.clear()
            self._idle.clear()

    def _memory(self, nbytes: int) -> NDArray[np.uint8]:
        """Return memory that nothing shows: of an earlier result, or fresh."""
        with self._lock:
            for _ in range(len(self._idle)):
                shown = self._idle.popleft()
                if shown.memory.nbytes == nbytes:
                    self._known.pop(shown, None)
                    self.reused += 1
                    return shown.memory
                self._idle.append(shown)
            while len(self._known) > 1 and self._bytes_known() + nbytes > KEPT_BYTES:
                oldest = next(iter(self._known))
                if oldest in self._idle:
                    self._idle.remove(oldest)
                del self._known[oldest]
        return fresh_memory(nbytes)

    def _bytes_known(self) -> int:
        return sum([shown.memory.nbytes for shown in self._known])
