"""Host-visible memory: page-locked blocks, exactly as large as asked for."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.units import align_up
from forge3d_cuda.errors import translate

PAGE = 4096


class PinnedMemory:
    """Page-locked memory; gives itself back when the last array over it is gone.

    So no array ever shows memory that was freed, whatever its holder does after close.
    """

    __slots__ = ("_staging", "address", "nbytes")

    def __init__(self, staging: Staging, address: int, nbytes: int) -> None:
        self._staging = staging
        self.address = address
        self.nbytes = nbytes

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "typestr": "|u1", "shape": (self.nbytes,), "data": (self.address, False)}

    def __del__(self) -> None:
        self._staging.rest(self.address)


@attrs.define(eq=False)
class HostBlock:
    """Page-locked memory at ``address``, ``nbytes`` long; upload and readback are alike on CUDA."""

    address: int
    nbytes: int
    _array: NDArray[np.uint8] | None

    def view(self) -> NDArray[np.uint8]:
        """Return all of it as a fresh 1-d array, so that the core can tell its views apart."""
        assert self._array is not None, "the block was freed"
        return self._array[:]

    @property
    def released(self) -> bool:
        return self._array is None

    def release(self) -> None:
        self._array = None


@attrs.define(eq=False)
class Staging:
    """Allocates blocks and gives them back without ever waiting for the device.

    ``cudaFreeHost`` may wait for all work in flight, on every lane: a caller who only closed a ring
    would stall, and one whose lane waits for the host would never return. So while the device is busy
    no block is freed: it stays the core's, in the budget and ready to be used again. Memory that an
    array showed until then, past its block, rests in ``_resting`` until the device is idle.

    Thread-safety: any thread; the list is only appended to and popped from, each of which is atomic.
    """

    _runtime: Any
    _idle: Callable[[], bool]
    _resting: list[int] = attrs.field(factory=list)
    _closed: bool = False
    _owner: int = attrs.field(factory=os.getpid)

    @staticmethod
    def footprint(nbytes: int) -> int:
        return align_up(nbytes, PAGE)

    def allocate(self, nbytes: int) -> HostBlock:
        self.settle()
        size = self.footprint(nbytes)
        try:
            address = int(self._runtime.hostAlloc(size, self._runtime.hostAllocPortable))
        except RuntimeError as error:
            raise translate(error, f"page-locking {size} bytes of host memory") from error
        memory = PinnedMemory(self, address, nbytes)  # first: an interrupt from here on gives it back
        ctypes.memset(address, 0, size)  # CUDA does not promise it
        return HostBlock(address, nbytes, np.asarray(memory))

    def free(self, block: HostBlock) -> bool:
        """Free a block, or return False and change nothing where that would wait for the device."""
        if not block.released and not self._idle():
            return False
        block.release()
        self.settle()
        return True

    def rest(self, address: int) -> None:
        """Take note of memory that nobody shows any more; called by the garbage collector too."""
        if os.getpid() != self._owner:
            return  # a forked child has no device behind its copy
        self._resting.append(address)
        if self._closed:
            self.settle()

    def settle(self) -> None:
        """Really free what rests, if that would wait for nothing."""
        while self._resting and self._idle():
            try:
                self._runtime.freeHost(self._resting.pop())
            except IndexError:
                return  # another thread freed the last
            except Exception:
                pass  # the device is lost or the process ends, and the memory goes with it

    def close(self) -> None:
        """Free what rests now and the other blocks with their last array. The device has come to rest."""
        self._idle = lambda: True
        self._closed = True
        self.settle()
