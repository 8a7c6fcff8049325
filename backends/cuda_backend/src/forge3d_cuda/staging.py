"""Host-visible memory: page-locked blocks, exactly as large as asked for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.errors import OutOfHostMemory
from forge3d_core.units import align_up, format_bytes
from forge3d_cuda.current import OnDevice
from forge3d_cuda.errors import OUT_OF_MEMORY, status_of, translate

PAGE = 4096


class Worker(Protocol):
    @property
    def idle(self) -> bool: ...


_EVERYWHERE: dict[Any, PinnedFreeList] = {}


@attrs.define(eq=False)
class PinnedFreeList:
    """The memory of all devices of the process: each may use it all, as it is portable.

    So ``cudaFreeHost`` waits for all work in flight, on every lane of every device: a caller that only closed
    a ring would stall, and one whose lane waits for the host would never return. It is called when no lane
    of ours has work; before, an allocation of the same size takes what is here. (It does wait for work that
    a program submits past forge3d, and for what another thread submits at that very moment.)

    Thread-safety: any thread; the lists are only appended to and popped from, each of which is atomic.
    """

    _runtime: Any
    _blocks: list[tuple[int, int, int]] = attrs.field(factory=list, init=False)  # address, bytes, device
    _workers: set[weakref.ref[Worker]] = attrs.field(factory=set, init=False)

    @classmethod
    def of(cls, runtime: Any) -> PinnedFreeList:
        """Return the one of ``runtime``, which is CUDA's: there is one in a process."""
        return _EVERYWHERE.setdefault(runtime, cls(runtime))

    def watch(self, worker: Worker) -> None:
        """Free nothing while ``worker`` has work."""
        self._workers.add(weakref.ref(worker, self._workers.discard))

    def put(self, address: int, nbytes: int, device: int) -> None:
        self._blocks.append((address, nbytes, device))

    def take(self, nbytes: int) -> int | None:
        """Return the address of ``nbytes`` that are here, with what was in them, or None."""
        for block in self._blocks:  # no copy of it: one that meets the collector has what it removes
            if block[1] == nbytes:
                with contextlib.suppress(ValueError):  # another thread has taken it
                    self._blocks.remove(block)
                    return block[0]
        return None

    def trim(self) -> None:
        """Free all of it, if that would wait for nothing."""
        while self._blocks and self.idle():
            try:
                address, _nbytes, device = self._blocks.pop()
            except IndexError:
                return  # another thread freed the last
            with contextlib.suppress(Exception), OnDevice(self._runtime, device):
                self._runtime.freeHost(address)  # fails where the device is lost, and the memory with it

    def idle(self) -> bool:
        """Whether no watched worker has work."""
        workers = (watched() for watched in self._workers.copy())
        return all(worker.idle for worker in workers if worker is not None)


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
        self._staging.take_back(self)


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
    """Allocates the blocks of one device and gives them back without ever waiting for it.

    While a device is busy no block is freed: it stays the core's, in the budget and ready to be used again.
    Memory that an array showed past its block is on the free list so long (see :class:`PinnedFreeList`).

    Thread-safety: any thread.
    """

    _runtime: Any
    _device: int
    _idle: Callable[[], bool]
    free_list: PinnedFreeList = attrs.field(init=False)
    _closed: bool = False
    _owner: int = attrs.field(factory=os.getpid)

    def __attrs_post_init__(self) -> None:
        self.free_list = PinnedFreeList.of(self._runtime)

    @staticmethod
    def footprint(nbytes: int) -> int:
        return align_up(nbytes, PAGE)

    def allocate(self, nbytes: int) -> HostBlock:
        self.free_list.trim()
        size = self.footprint(nbytes)
        address = self.free_list.take(size) or self._take(size)
        memory = PinnedMemory(self, address, nbytes)  # first: its end gives the memory back
        ctypes.memset(address, 0, size)  # neither CUDA nor the block before promises zeros
        return HostBlock(address, nbytes, np.asarray(memory))

    def _take(self, size: int) -> int:
        try:
            return int(self._runtime.hostAlloc(size, self._runtime.hostAllocPortable))
        except RuntimeError as error:
            if status_of(error) == OUT_OF_MEMORY:
                raise OutOfHostMemory(
                    f"CUDA got no {format_bytes(size)} of page-locked host memory ({error}); containers, "
                    "WSL2 and ulimit -l limit it, whatever is free on the device: lower the budget, or close "
                    "rings, pools and host arrays"
                ) from error
            raise translate(error, f"page-locking {size} bytes of host memory") from error

    def free(self, block: HostBlock) -> bool:
        """Free a block, or return False and change nothing while freeing would wait."""
        if not block.released and not (self._idle() and self.free_list.idle()):
            return False
        block.release()
        self.free_list.trim()
        return True

    def take_back(self, memory: PinnedMemory) -> None:
        """Put memory that no array shows any more on the free list; the garbage collector calls it too."""
        if os.getpid() != self._owner:
            return  # a forked child has no device behind its copy
        self.free_list.put(memory.address, self.footprint(memory.nbytes), self._device)
        if self._closed:  # else the next call of the driver does
            self.free_list.trim()

    def close(self) -> None:
        """Let go; the blocks that arrays still show follow with the last of them."""
        self._closed = True
        self.free_list.trim()
