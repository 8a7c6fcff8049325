"""Host-visible memory: mappable buffers, written and read in place.

A block is mapped whenever no submission names it. wgpu wants the buffers of a submission unmapped, so
each submission unmaps its blocks, and the map that follows it resolves only when the device has
finished with them: the map *is* the fence.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import numpy as np
import wgpu
from numpy.typing import NDArray
from wgpu.backends.wgpu_native import ffi, lib

from forge3d_core.driver import Direction
from forge3d_core.errors import ForgeError
from forge3d_core.units import align_up
from forge3d_wgpu.errors import NativeErrors, call_all
from forge3d_wgpu.signals import SUCCESS, Signal

WORD = 4
"""WebGPU copies and maps whole words."""

Step = tuple[Any, ...]
"""A native call and its arguments, to be made with others in one go."""

_MODES = {"upload": lib.WGPUMapMode_Write, "readback": lib.WGPUMapMode_Read}


class Kept:
    """A buffer, kept by its block and by all that shows its memory, of this mapping or an earlier one.

    So no array ever shows memory that was freed, whatever its holder does after close: the last one
    lets go of wgpu-py's buffer, which then gives itself back. The address stays good when the buffer is
    unmapped for a submission: on Vulkan and Metal memory is mapped for as long as it is allocated.
    """

    __slots__ = ("__weakref__", "buffer")

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer


class MappedMemory:
    """The memory of a mapped buffer at ``pointer``; arrays over it keep the buffer."""

    __slots__ = ("__weakref__", "_kept", "nbytes", "pointer", "writable")

    def __init__(self, kept: Kept, pointer: Any, nbytes: int, *, writable: bool) -> None:
        self._kept = kept
        self.pointer = pointer
        self.nbytes = nbytes
        self.writable = writable

    @property
    def __array_interface__(self) -> dict[str, Any]:
        address = int(ffi.cast("uintptr_t", self.pointer))
        return {"version": 3, "typestr": "|u1", "shape": (self.nbytes,), "data": (address, not self.writable)}


class Claim(Protocol):
    """A submission that names a block, as the block sees it."""

    accepted: bool  # whether the call that made it came to its end
    done: bool  # whether it is known to be complete

    @property
    def launched(self) -> bool:
        """Whether it has reached the queue: wgpu was told to unmap the block and to map it behind it."""

    @property
    def waiting(self) -> bool:
        """Whether it has yet to reach the queue, and will."""


@attrs.define(eq=False)
class HostBlock:
    """A mappable buffer of ``nbytes``, rounded up to whole words; see ``forge3d_core.driver.HostBlock``."""

    native: Any  # None once released
    nbytes: int
    direction: Direction
    settle: Callable[[Callable[[], bool]], None]  # returns when the condition holds
    signal: Signal = attrs.field(factory=Signal.take, init=False)  # that it is mapped again
    clear_step: Step = attrs.field(init=False)  # after which the signal has not fired
    unmap_step: Step = attrs.field(init=False)  # takes the memory from the host
    map_step: Step = attrs.field(init=False)  # asks for it again, behind the work that has been submitted
    mapping: MappedMemory | None = attrs.field(default=None, init=False)  # the newest that was shown
    _range: tuple[Any, int, int] = attrs.field(init=False)  # the native buffer and all of its bytes
    _claim: Claim | None = attrs.field(default=None, init=False)  # the newest submission since then
    _array: NDArray[np.uint8] | None = attrs.field(default=None, init=False)  # over the mapping
    _kept: Kept | None = attrs.field(init=False, default=attrs.Factory(lambda self: Kept(self.native), True))

    def __attrs_post_init__(self) -> None:
        buffer, nbytes, info = self.native._internal, align_up(self.nbytes, WORD), self.signal.mapped[0]
        self._range = buffer, 0, nbytes
        self.clear_step = self.signal.clear_step
        self.unmap_step = (lib.wgpuBufferUnmap, buffer)
        self.map_step = (lib.wgpuBufferMapAsync, buffer, _MODES[self.direction], 0, nbytes, info)

    @classmethod
    def create(
        cls, device: Any, nbytes: int, direction: Direction, settle: Callable[[Callable[[], bool]], None]
    ) -> HostBlock:
        """Allocate a zeroed block. An upload block is mapped already, a readback block is to be mapped.

        (wgpu would back a readback buffer that is mapped at creation with a second buffer.)
        """
        upload = direction == "upload"
        usage = wgpu.BufferUsage
        with NativeErrors(f"allocating {nbytes} bytes of host-visible memory"):
            native = device.create_buffer(
                size=align_up(nbytes, WORD),
                usage=usage.MAP_WRITE | usage.COPY_SRC if upload else usage.MAP_READ | usage.COPY_DST,
                mapped_at_creation=upload,
            )
        block = cls(native, nbytes, direction, settle)
        if upload:
            block.signal.note()
        return block

    def map(self) -> None:
        """Ask for the memory of a fresh readback block."""
        with NativeErrors("mapping a host-visible block"):
            call_all([self.map_step])

    def claim(self, claim: Claim) -> None:
        """Note a submission that names the block before it can reach the queue."""
        if self._claim is not None and not self._claim.done:
            self._await_claim()
        self._claim = claim

    def view(self) -> NDArray[np.uint8]:
        """Return all of it as a fresh 1-d array, so that the core can tell its views apart.

        Where an interrupt cut the submission short that names the block, nobody waits for that: this does.
        """
        array = self._array  # once: two threads may look at a block that two reads share
        if self._claim is not None or array is None:
            array = self._show()
        return array[:]

    def _show(self) -> NDArray[np.uint8]:
        """Have an array over the memory; wgpu says where that is, each time that it is mapped."""
        claim = self._claim
        if claim is not None and not claim.done:
            if claim.accepted and self._busy(claim):
                raise self._unmapped()
            self._await_claim()
        # wgpu-native ends the process when it is asked for the memory of a buffer that is not mapped.
        statuses = self.signal.statuses
        if self._kept is None or not statuses or statuses[0] != SUCCESS:
            raise self._unmapped()
        pointer = lib.wgpuBufferGetMappedRange(*self._range)
        array, mapping = self._array, self.mapping
        if array is None or mapping is None or mapping.pointer != pointer:
            mapping = MappedMemory(self._kept, pointer, self.nbytes, writable=self.direction == "upload")
            array = np.asarray(mapping)
            self.mapping, self._array = mapping, array
        self._claim = None
        return array

    def release(self) -> bool:
        """Give the buffer back, or leave that to the last array which shows it; whether none does."""
        native, shown = self.native, weakref.ref(self._kept)
        self.native = self.mapping = self._array = self._claim = self._kept = None
        self.signal.give()
        if shown() is not None:
            return False
        native._release()
        return True

    def _busy(self, claim: Claim) -> bool:
        return claim.waiting or (claim.launched and not self.signal.fired)

    def _await_claim(self) -> None:
        claim = self._claim
        if claim is not None and self._busy(claim):
            self.settle(lambda: not self._busy(claim))

    def _unmapped(self) -> ForgeError:
        return ForgeError(
            f"a host-visible block of {self.nbytes} bytes is not mapped: a submission still uses it"
        )
