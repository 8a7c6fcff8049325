"""Device memory: who holds it, who uses it, and when it may go back."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable
from operator import index
from typing import Any, Self

import attrs

from forge3d_core.driver import Direction, Driver
from forge3d_core.errors import Closed, ForeignObject, OutOfRange, TooLarge, UsageError
from forge3d_core.formats import texture_bytes
from forge3d_core.gate import Gate
from forge3d_core.protocols import BudgetTracker, FencePoint, Heap, MemoryKind, Reservation, TextureFormat
from forge3d_core.units import format_bytes


@attrs.define(eq=False)
class Allocation:
    """Native memory, its reservation, and the submissions that use it.

    ``write`` is the last submission that wrote it, ``reads`` the last of each lane that read it since:
    what a later submission on another lane has to wait for, and what must be over before it is freed.
    ``holds`` has a key for every loan of the memory: numpy arrays may not outlive what they show.
    ``pins`` has one for every command that names it and is not submitted yet.
    """

    native: Any
    reservation: Reservation | None
    write: FencePoint | None = None
    reads: dict[str, FencePoint] = attrs.field(factory=dict)
    holds: set[object] = attrs.field(factory=set)
    pins: set[object] = attrs.field(factory=set)
    owned: bool = True  # False for adopted memory, which goes back to nobody
    freed: bool = False

    def dependencies(self, lane: str, *, writes: bool) -> Iterable[FencePoint]:
        """Yield the points of other lanes that a submission on ``lane`` comes after."""
        if self.write is not None and self.write.timeline.name != lane:
            yield self.write
        if writes:
            for name, point in self.reads.items():
                if name != lane:
                    yield point

    def used(self, lane: str, point: FencePoint, *, writes: bool) -> None:
        """Note a submission; the caller serializes submissions."""
        if writes:
            self.write = point
            self.reads = {}
        else:
            self.reads[lane] = point

    def settled(self) -> bool:
        """Whether nothing uses it any more; never so after a failure, as nobody can tell."""
        if self.holds or self.pins:
            return False
        if self.write is not None and not self.write.done:
            return False
        return all(point.done for point in list(self.reads.values()))


@attrs.define(eq=False)
class Allocator:
    """Takes memory from the driver within the budget, and gives it back when the device is done.

    Thread-safety: any thread. :meth:`drop` is for the garbage collector: it takes no lock and only
    leaves a note, which the next call that matters reads.
    """

    driver: Driver
    budget: BudgetTracker
    gate: Gate = attrs.field(factory=Gate)
    _live: set[Allocation] = attrs.field(factory=set, init=False)
    _dropped: deque[Allocation] = attrs.field(factory=deque, init=False)
    _deferred: list[Allocation] = attrs.field(factory=list, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)

    @property
    def forked(self) -> bool:
        """Whether this is a forked child, where nothing can be given back: it is the parent's."""
        return self._pid != os.getpid()

    def buffer(self, nbytes: int) -> Allocation:
        """Return zeroed device memory. Raises :class:`TooLarge` or a :class:`BudgetError`."""
        limit = self.driver.info.limits.max_buffer_size if self.driver.info.limits else nbytes
        if nbytes > limit:
            raise TooLarge(
                f"a buffer of {format_bytes(nbytes)} is more than the {format_bytes(limit)} that "
                f"{self.driver.info.name} allows; split it"
            )
        return self._take(nbytes, "buffer", "device_local", lambda: self.driver.allocate_buffer(nbytes))

    def texture(self, width: int, height: int, format: TextureFormat) -> Allocation:
        """Return a zeroed texture."""
        nbytes = texture_bytes(width, height, format)
        return self._take(
            nbytes,
            "texture",
            "device_local",
            lambda: self.driver.allocate_texture(width, height, format),
        )

    def block(self, nbytes: int, direction: Direction, timeout: float | None = 0.0) -> Allocation:
        """Return a zeroed :class:`HostBlock`, charged to the host-visible budget."""
        return self._take(
            nbytes,
            "buffer",
            "host_visible",
            lambda: self.driver.allocate_block(nbytes, direction),
            timeout,
        )

    def afford(self, count: int, nbytes: int) -> None:
        """Raise :class:`BudgetExceeded` where so many blocks can never fit, before any of them is taken."""
        total = count * self.driver.footprint(nbytes, "host_visible")
        if total > self.budget.limit:
            self.budget.reserve(total).release()  # refused, counted, and in the budget's own words

    def release(self, allocation: Allocation) -> None:
        """Give memory back now, or as soon as the device is done with it."""
        self._dropped.append(allocation)
        self.sweep()

    def drop(self, allocation: Allocation) -> None:
        """Note that memory has lost its owner; safe inside the garbage collector."""
        if not self._closed:
            self._dropped.append(allocation)

    def pin(self, allocations: Collection[Allocation], key: object) -> None:
        """Keep memory while ``key`` stands for commands that name it; raise :class:`Closed` if it is gone."""
        with self._lock:
            for allocation in allocations:
                if allocation.freed:
                    raise Closed("memory that this work names was closed, and given back, in the meantime")
            for allocation in allocations:
                allocation.pins.add(key)

    def unpin(self, allocations: Iterable[Allocation], key: object) -> None:
        """Let go what ``key`` kept: the commands are submitted, or never will be. Takes no lock."""
        for allocation in allocations:
            allocation.pins.discard(key)

    def sweep(self) -> None:
        """Free what was dropped and is no longer in use."""
        if not (self._dropped or self._deferred) or self.forked:
            return
        with self._lock:
            while self._dropped:
                allocation = self._dropped.popleft()
                if allocation in self._live:  # released twice is released once
                    self._live.discard(allocation)
                    self._deferred.append(allocation)
            waiting, self._deferred = self._deferred, []
        for allocation in waiting:
            if allocation.settled() and self._claim(allocation):
                self._free(allocation)
            else:
                with self._lock:
                    self._deferred.append(allocation)

    def close(self) -> int:
        """Give every reservation back: the driver has closed and taken its memory along.

        Return how many host-visible blocks numpy arrays still show.
        """
        self._closed = True
        with self._lock:
            rest = [*self._live, *self._deferred]
            self._live, self._deferred = set(), []
            self._dropped.clear()  # a note that nobody reads would keep its memory for good
        for allocation in rest:
            if allocation.reservation is not None:
                allocation.reservation.release()
        return sum(bool(allocation.holds) for allocation in rest)

    def _take(
        self,
        nbytes: int,
        kind: MemoryKind,
        heap: Heap,
        allocate: Callable[[], Any],
        timeout: float | None = 0.0,
    ) -> Allocation:
        reservation = self.budget.reserve(
            self.driver.footprint(nbytes, heap), kind=kind, heap=heap, timeout=timeout
        )
        try:
            with self.gate.passing():
                native = allocate()
        except BaseException:
            reservation.release()
            raise
        allocation = Allocation(native, reservation)
        with self._lock:
            self._live.add(allocation)
        return allocation

    def _claim(self, allocation: Allocation) -> bool:
        """Mark as freed unless a submission got hold of it since somebody looked."""
        with self._lock:
            allocation.freed = allocation.settled()
            return allocation.freed

    def _free(self, allocation: Allocation) -> None:
        if allocation.owned:
            try:
                with self.gate.passing():
                    self.driver.free(allocation.native)
            except Closed:
                pass  # it went with the driver
        if allocation.reservation is not None:
            allocation.reservation.release()


@attrs.frozen(eq=False)
class BufferMemory:
    """A buffer as commands name it: it stays valid while they run, closed or not."""

    native: Any
    nbytes: int


@attrs.frozen(eq=False)
class TextureMemory:
    """A texture as commands name it."""

    native: Any
    nbytes: int
    width: int
    height: int
    format: TextureFormat


class DeviceMemory:
    """What buffers and textures of the assembled device share."""

    def __init__(self, owner: object, allocator: Allocator, allocation: Allocation, label: str) -> None:
        self.owner = owner  # identity only: which device made it
        self.label = label
        self.allocation = allocation
        self._closed = False
        self._release = allocator.release
        # Dropped without close, it still gives back; the collector must only leave a note.
        self._finalizer = weakref.finalize(self, allocator.drop, allocation)
        self._finalizer.atexit = False

    @property
    def native(self) -> Any:
        self.check()
        return self.allocation.native

    @property
    def closed(self) -> bool:
        return self._closed

    def check(self, owner: object | None = None) -> None:
        """Raise :class:`Closed`, or :class:`ForeignObject` unless ``owner`` made it."""
        if owner is not None and owner is not self.owner:
            raise ForeignObject(f"{self!r} belongs to another device")
        if self._closed:
            raise Closed(f"{self!r} was closed")

    def close(self) -> None:
        if not self._closed and self._finalizer.detach() is not None:
            self._closed = True
            self._release(self.allocation)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class DeviceBuffer(DeviceMemory):
    """See :class:`forge3d_core.protocols.Buffer`."""

    def __init__(
        self, owner: object, allocator: Allocator, allocation: Allocation, nbytes: int, label: str
    ) -> None:
        super().__init__(owner, allocator, allocation, label)
        self.nbytes = nbytes
        self.memory = BufferMemory(allocation.native, nbytes)

    def __getattr__(self, name: str) -> Any:
        # Interop interfaces exist exactly where the API's own object has them.
        if name in ("__cuda_array_interface__", "__dlpack__", "__dlpack_device__"):
            return getattr(self.native, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def region(self, offset: int, nbytes: int) -> None:
        """Raise :class:`OutOfRange` unless the bytes lie inside."""
        _whole("offset and nbytes", offset, nbytes)
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise OutOfRange(
                f"bytes {offset} to {offset + nbytes} do not lie inside {self!r} of {self.nbytes} bytes"
            )

    def __repr__(self) -> str:
        return f"<buffer {self.label!r}>" if self.label else f"<buffer of {format_bytes(self.nbytes)}>"


class DeviceTexture(DeviceMemory):
    """See :class:`forge3d_core.protocols.Texture`."""

    def __init__(
        self,
        owner: object,
        allocator: Allocator,
        allocation: Allocation,
        size: tuple[int, int],
        format: TextureFormat,
        label: str,
    ) -> None:
        super().__init__(owner, allocator, allocation, label)
        self.width, self.height = size
        self.format = format
        self.nbytes = texture_bytes(*size, format)
        self.memory = TextureMemory(allocation.native, self.nbytes, *size, format)

    def region(self, origin: tuple[int, int], size: tuple[int, int]) -> None:
        """Raise :class:`OutOfRange` unless the texels lie inside."""
        (x, y), (w, h) = origin, size
        _whole("origin and size", x, y, w, h)
        if min(x, y, w, h) < 0 or x + w > self.width or y + h > self.height:
            raise OutOfRange(f"{w}x{h} texels at ({x}, {y}) do not lie inside {self!r}")

    def __repr__(self) -> str:
        return f"<texture {self.label or ''} {self.width}x{self.height} {self.format.name}>"


def _whole(what: str, *numbers: int) -> None:
    """Raise unless all are ints: a lane would meet a float only when it runs, and fail for good."""
    try:
        for number in numbers:
            index(number)
    except TypeError:
        raise UsageError(f"{what} are whole numbers, not {', '.join(map(repr, numbers))}") from None
