"""The allocator: it takes memory from the driver and gives it back when nothing uses it any more."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import attrs

from forge3d_core.driver import Direction, Driver, ShapedTextures
from forge3d_core.errors import Closed, OutOfDeviceMemory, TooLarge
from forge3d_core.foreign import asking, from_signal_handler, view_of
from forge3d_core.formats import TextureShape
from forge3d_core.lifetime.deferred_close import close_deferred
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.lifetime.hold import note, strike
from forge3d_core.memory.allocation import Allocation, Owned
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.entry import Entry, entry_of
from forge3d_core.protocols import FencePoint, Heap, MemoryKind, MemoryUse, TextureFormat
from forge3d_core.units import format_bytes

__all__ = ["Allocation", "Allocator", "Owned"]

NOTHING: tuple[Collection[Allocation], ...] = ()
USE: dict[Direction, MemoryUse] = {"upload": "staging", "readback": "readback"}

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
"""How long a sweep waits for one that another thread is making, which takes no longer than freeing does."""


@attrs.define(eq=False)
class Allocator:
    """Takes memory from the driver within the budget, and gives it back when the device is done.

    Memory without an owner stays noted until it has gone back, native memory and reservation.
    One thread at a time makes a *pass* over the notes, so each is freed once, and no lock is held over
    the driver's calls. An interrupted pass loses nothing: the next begins where it ended.

    Thread-safety: any thread. An :class:`Owned` that is gone leaves a note, which the next call that
    matters reads. :meth:`drop` takes no lock. :meth:`release` never waits for another thread, as a
    finalizer may call it while its thread holds any lock of ours.

    ``submitting`` is what the submission under way names, all that it reads and all that it writes. The
    thread that submits sets it before it looks at ``freed``; a pass sets ``freed`` before it looks there. So
    one sees the other, without a lock over the driver's submit.
    """

    driver: Driver
    budget: Ledger
    gate: CallGuard = attrs.field(factory=CallGuard)
    submitting: tuple[Collection[Allocation], ...] = attrs.field(default=NOTHING, init=False)
    _live: set[Allocation] = attrs.field(factory=set, init=False)  # all that has not gone back
    _owners: dict[weakref.ref[Owned], Allocation] = attrs.field(factory=dict, init=False)
    _lost: deque[weakref.ref[Owned]] = attrs.field(factory=deque, init=False)  # owners that are gone
    _dropped: dict[Allocation, None] = attrs.field(factory=dict, init=False)  # without owner, in order
    _adopted: weakref.WeakValueDictionary[tuple[int, int], Allocation] = attrs.field(
        factory=weakref.WeakValueDictionary, init=False
    )
    _sweeper: int | None = attrs.field(default=None, init=False)  # the thread that makes a pass
    _passes: int = attrs.field(default=0, init=False)  # that came to their end
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _swept: threading.Condition = attrs.field(
        init=False, default=attrs.Factory(lambda self: threading.Condition(self._lock), takes_self=True)
    )
    _closed: bool = attrs.field(default=False, init=False)
    _pid: int = attrs.field(factory=os.getpid, init=False)

    @property
    def forked(self) -> bool:
        """Whether this is a forked child, where nothing can be given back: it is the parent's."""
        return self._pid != os.getpid()

    def buffer(self, nbytes: int, label: str = "") -> Owned:
        """Return zeroed device memory. Raises :class:`TooLarge` or a :class:`BudgetError`."""
        if nbytes > (limit := self.driver.info.limits.max_buffer_size if self.driver.info.limits else nbytes):
            raise TooLarge(
                f"a buffer of {format_bytes(nbytes)} is more than the {format_bytes(limit)} that "
                f"{self.driver.info.name} allows; split it"
            )
        entry = self._entry(nbytes, "buffer", "device_local", label=label)
        return self._allocate(entry, lambda: self.driver.allocate_buffer(nbytes))

    def texture(self, shape: TextureShape, format: TextureFormat, label: str = "") -> Owned:
        """Return a zeroed texture."""
        allocate = partial(self.driver.allocate_texture, shape.width, shape.height, format)
        if not shape.plain and isinstance(self.driver, ShapedTextures):  # it is, or the device had refused
            allocate = partial(self.driver.allocate_shaped_texture, shape, format)
        entry = self._entry(shape.nbytes(format), "texture", "device_local", label=label)
        return self._allocate(entry, allocate)

    def block(self, nbytes: int, direction: Direction, timeout: float | None = 0.0) -> Owned:
        """Return a zeroed :class:`HostBlock`, charged to the host-visible budget."""
        block = self._reuse(nbytes, direction) or self._allocate(
            self._entry(nbytes, "buffer", "host_visible", use=USE[direction]),
            lambda: self.driver.allocate_block(nbytes, direction),
            timeout,
        )
        block.allocation.direction = direction
        return block

    def afford(self, count: int, nbytes: int) -> None:
        """Raise :class:`BudgetExceeded` where so many blocks can never fit, before any of them is taken."""
        total = count * self._footprint(nbytes, "host_visible")
        if total > self.budget.limit:
            self.budget.reserve(total).release()  # refused, counted, and in the budget's own words

    def keep(self, allocation: Allocation) -> Owned:
        """Return the owner of what the driver has just made."""
        owned = self._owned(allocation)
        self._live.add(allocation)  # last: until now all of it goes as it came, by reference counts
        return owned

    def release(self, owned: Owned) -> None:
        """Give memory back now, or as soon as the device is done with it and no other pass is under way."""
        self.drop(owned)
        self._pass()

    def drop(self, owned: Owned) -> None:
        """Note that memory has lost its owner, an object that may live on."""
        if not self._closed:
            self._dropped[owned.allocation] = None
            self._owners.pop(weakref.ref(owned), None)

    def recycle(self, owned: Owned) -> Owned | None:
        """Return memory that is out of use under a new owner, or None; what names the old one is refused."""
        old, uses = owned.allocation, owned.allocation.uses()
        if not old.owned or self._closed or not all(point.done for point in uses):
            return None
        with self._lock:
            if old not in self._live or not self._seize(old, uses):
                return None
            again = Allocation(old.native, old.reservation)
            fresh = self._owned(again)
            self._live.symmetric_difference_update((old, again))  # in one step: one of them is freed, once
        return fresh

    def pin(self, allocations: Collection[Allocation], user: object) -> None:
        """Keep memory while ``user``, which has commands for it, lives; raise :class:`Closed` if gone."""
        gone = False
        with self._lock:
            for allocation in allocations:  # first, so that a pass that looks from now on sees it in use
                note(allocation.pins, user)
                gone = gone or allocation.freed
            if gone:
                for allocation in allocations:
                    strike(allocation.pins, user)
                raise Closed("memory that this work names was closed, and given back, in the meantime")

    def adopted(self, native: Any, nbytes: int) -> Owned:
        """Return the allocation of the caller's memory: adopted twice it is one, with its users in order."""
        key = _place(native), nbytes
        with self._lock:
            allocation = self._adopted.get(key)
            if allocation is None:
                allocation = self._adopted[key] = Allocation(native, None, owned=False)
        return self._owned(allocation)

    @property
    def adopted_bytes(self) -> int:
        """The bytes of all memory that is adopted and not closed again, each once."""
        owned = set(self._owners.values())
        return sum(one.key[1] for one in self._adopted.valuerefs() if one() in owned)

    @property
    def holdings(self) -> list[object]:
        """What has not gone back when the allocator closes, adopted memory too: for the deferred close."""
        return [self._live, self._owners, self._dropped]

    def sweep(self) -> None:
        """Free what was dropped and is no longer in use.

        When it returns, all that could go back when it was called has gone back: a pass of another
        thread is waited for, as what that is just freeing is still charged. For a while and not for
        ever, as a finalizer may come here on a thread that holds what the other needs.
        """
        enough = self._passes + 2  # one may be under way; the next begins after this call, on any thread
        while not self._pass():
            with self._lock:
                over = self._swept.wait_for(
                    lambda: self._sweeper is None or self._passes >= enough, SWEEP_SECONDS
                )
            if not over or self._passes >= enough:
                return

    def close(self) -> int:
        """Give every reservation back: the driver has closed and taken its memory along.

        Return how many host-visible blocks numpy arrays still show.
        """
        self._closed = True
        rest, self._live = self._live, set()
        self._dropped, self._owners = {}, {}  # a note that is never read would keep its memory for good
        for allocation in rest:
            if allocation.reservation is not None:
                allocation.reservation.release()
        return sum(bool(allocation.holds) for allocation in rest)

    def _owned(self, allocation: Allocation) -> Owned:
        """Give an allocation its owner, or one more; whatever becomes of the caller, its end is noted."""
        owned = Owned(allocation)
        self._owners[weakref.ref(owned, self._lost.append)] = allocation
        return owned

    def _reuse(self, nbytes: int, direction: Direction) -> Owned | None:
        """Return a block that was dropped and is out of use, zeroed, with its reservation.

        The driver cannot let go of it yet, or it is for uploads and out of use since the last pass.
        """
        for block in list(self._dropped):
            if block.direction != direction or block.native.nbytes != nbytes:
                continue
            if direction == "readback" and not (block.resting and view_of(block.native).flags.writeable):
                continue  # it cannot be zeroed
            uses = block.uses()
            over = direction == "upload" and all(point.done for point in uses)
            with self._lock:
                seized = block.resting or (over and not block.freed and self._seize(block, uses))
                if seized and block in self._live:
                    again = Allocation(block.native, block.reservation)  # the old one may be dropped twice
                    owned = self._owned(again)
                    self._live.add(again)
                    self._live.discard(block)  # out of the reach of others, passes too
                    break
        else:
            return None
        with self.gate.passing():
            view_of(again.native)[:] = 0
        return owned

    def _entry(self, nbytes: int, kind: MemoryKind, heap: Heap, **said: Any) -> Entry:
        return entry_of(self._footprint(nbytes, heap), kind, heap, pending=True, **said)

    def _allocate(self, entry: Entry, allocate: Callable[[], Any], timeout: float | None = 0.0) -> Owned:
        reservation = self.budget.take(entry, timeout)
        try:
            with self.gate.passing(), asking("the driver's allocation"):
                try:
                    native = allocate()
                except OutOfDeviceMemory:
                    local = entry.heap == "device_local"
                    asked = local and self.budget.device_caches.give_back(entry.nbytes)
                    if not (close_deferred() or asked):
                        raise
                    self.sweep()
                    native = allocate()
            reservation.grant()
        except BaseException:
            reservation.release()
            raise
        return self.keep(Allocation(native, reservation))

    def _footprint(self, nbytes: int, heap: Heap) -> int:
        with asking("the driver's footprint"):
            return self.driver.footprint(nbytes, heap)

    def _pass(self) -> bool:
        """Give back what can go; False if another thread is doing that."""
        if not (self._dropped or self._lost) or self.forked:
            return True
        me = threading.get_ident()
        if self._sweeper == me:
            return True  # inside a pass, which goes on: a finalizer has closed something, say
        try:
            with self._lock:
                if self._sweeper is not None:
                    return False
                self._sweeper = me
            self._note_lost()
            for allocation in list(self._dropped):
                if allocation not in self._live:  # dropped twice is given back once
                    if allocation.owned or all(point.done for point in allocation.uses()):
                        self._dropped.pop(allocation, None)
                    # Adopted memory stays known so long: adopted again, it is put in order behind its uses.
                elif self._claim(allocation):
                    self._free(allocation)
            self._passes += 1
        finally:
            if self._sweeper == me:
                self._sweeper = None
                with self._lock:
                    self._swept.notify_all()
        return True

    def _note_lost(self) -> None:
        """Drop what lost its owner; in a pass, and an interrupt leaves the rest for the next."""
        while self._lost:
            gone = self._lost[0]
            if (allocation := self._owners.get(gone)) is not None:
                self._dropped[allocation] = None
            self._owners.pop(gone, None)
            self._lost.popleft()

    def _claim(self, allocation: Allocation) -> bool:
        """Mark as freed if nothing uses it any more, also since the driver was asked."""
        uses = allocation.uses()
        if not all(point.done for point in uses):
            return False
        with self._lock:
            allocation.resting = False
            return self._seize(allocation, uses) and allocation in self._live

    def _seize(self, allocation: Allocation, uses: tuple[FencePoint, ...]) -> bool:
        """Mark as freed what is not in use, all of ``uses`` being over; whether it is. The lock is held."""
        try:
            allocation.freed = True
            unused = not (allocation.reachable or allocation.pins) and allocation.uses() == uses
            for named in self.submitting:
                unused = unused and allocation not in named
        except BaseException:
            allocation.freed = False
            raise
        allocation.freed = unused
        return unused

    def _free(self, allocation: Allocation) -> None:
        try:
            with self.gate.passing():
                allocation.resting = (allocation.free or self.driver.free)(allocation.native) is False
        except Closed:
            pass  # it went with the driver
        except Exception as error:
            if from_signal_handler(error):
                raise  # asked again by the next pass
            _log.exception("the driver failed to free memory, which stays charged until the device closes")
            self._dropped.pop(allocation, None)
            return
        if not allocation.resting:
            if allocation.reservation is not None:
                allocation.reservation.release()
            self._live.discard(allocation)
            # Last: a thread about to refuse a reservation must still find it.
            self._dropped.pop(allocation, None)


def _place(native: Any) -> int:
    """Return what two natives over the same memory have in common: the address, or being one object."""
    for interface in ("__cuda_array_interface__", "__array_interface__"):
        described = getattr(native, interface, None)
        if described is not None:
            return int(described["data"][0])
    return id(native)
