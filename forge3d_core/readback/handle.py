"""One read on its way home: the handle that its caller holds, and all that is known of it."""

from __future__ import annotations

import time
import weakref
from _thread import RLock
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.concurrency.loops import pause
from forge3d_core.deadline import Deadline, seconds
from forge3d_core.errors import Cancelled, Closed, FenceTimeout, Forked, StateError, copy_exception
from forge3d_core.foreign import view_of
from forge3d_core.memory.views import Loan
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import FencePoint
from forge3d_core.readback.host import HandleHost, ReadState
from forge3d_core.readback.landing import land, land_pieces
from forge3d_core.readback.lease import BlockLease, OwnedLease
from forge3d_core.readback.region import Region
from forge3d_core.readback.state import Slot
from forge3d_core.timeline.points import Settled, forget, known, wait_callback
from forge3d_core.timeline.timeline import Point
from forge3d_core.transfer.copying import INLINE_BYTES
from forge3d_core.transfer.landing import Piece
from forge3d_core.units import format_bytes

FLYING, LANDED, LEASED, CANCELLED, FAILED = ReadState


@presents(protocols.ReadbackHandle, array="handle.wait()")
class Handle:
    """See :class:`forge3d_core.protocols.ReadbackHandle`.

    The pool knows it weakly: what its caller lets go of has no block any more once the device is done.
    It has one while ``slot`` is not None; ``place`` is where its part of the block begins.
    """

    __slots__ = (
        "__weakref__",
        "_awaiting",
        "_failure",
        "_lock",
        "_pool",
        "_reached",
        "_result",
        "_state",
        "pieces",
        "place",
        "point",
        "region",
        "slot",
        "started",
    )

    point: Point

    def __init__(self, pool: HandleHost, region: Region) -> None:
        self.region = region
        self.slot: Slot | None = None
        self.place = 0
        self.pieces: Sequence[Piece] = ()  # of a large read; each has a point of its own
        self._pool = pool
        self._state = FLYING
        self._result: NDArray[Any] | None = None
        self._failure: Exception | None = None  # None: the point has one
        self._reached: weakref.ref[Any] | None = None  # alive until the lease is over
        self._awaiting: list[Settled] | None = None  # what a cancel calls
        self.started = time.perf_counter()
        self._lock = RLock()

    def __repr__(self) -> str:
        region = self.region
        what = f"readback of {format_bytes(region.nbytes)} as {region.dtype} {region.shape}"
        complete = self._state is FLYING and self.slot is not None and known(self.point)
        return line(what, "complete" if complete else self._state.value)

    @property
    def is_complete(self) -> bool:
        return self._state is LANDED or self._state is LEASED or self.point.done

    def wait(self, timeout: float | None = None) -> NDArray[Any]:
        if type(self._pool.life.ended) is Forked:
            self._refuse_in_child()
        if self._state is FLYING:
            if self.pieces:
                self._land_pieces(None if timeout is None else Deadline.after(timeout))
            elif timeout is not None or self.point.timeline.last_known < self.point.value:
                self._wait(self.point, timeout)
        elif timeout is not None:
            seconds(timeout)  # what is no number is refused, whether there is a wait or not
        if self.slot is not None:
            self.land()
        return self._get() if (result := self._result) is None else result

    def try_get(self) -> NDArray[Any] | None:
        self._refuse_in_child()
        if not self.is_complete and self._state is not CANCELLED:
            if self.fail_if_lost():
                self.point.wait(0)
            return None
        return self._get()

    def lease(self, timeout: float | None = None) -> BlockLease:
        self._refuse_in_child()
        if self._state is FLYING:
            self._wait(self.point, timeout)
        elif timeout is not None:
            seconds(timeout)
        with self._lock:
            slot = self.slot
            if self._state is LEASED and self._reached is not None and self._reached() is not None:
                raise StateError("this readback is leased already; release that lease first")
            if self._state is not FLYING or slot is None or self.region.direct is not None:
                return OwnedLease(self._get())
            return self._lend(slot)

    def cancel(self) -> None:
        if type(self._pool.life.ended) is Forked:
            return  # the parent's to give up
        awaiting = None
        with self._lock:
            if self._state is FLYING:
                self._state = CANCELLED
                awaiting, self._awaiting = self._awaiting or [], None
            if self._state is CANCELLED and (slot := self.slot) is not None:
                self._leave(slot)
        if awaiting is not None:
            for wake in awaiting:
                wake(self.point, None)
            self.point.timeline.nudge()

    def __await__(self) -> Generator[Any, None, NDArray[Any]]:
        return self.take_async().__await__()

    async def take_async(self) -> NDArray[Any]:
        """Do what ``wait`` does for a coroutine, without holding up its loop."""
        self._refuse_in_child()
        if self._state is FLYING and not self.point.done:
            await pause()  # a small read is often complete a turn of the loop later: no thread wakes
        if self._state is FLYING and not self.point.done:
            try:
                await wait_callback(self._on_over, self._forget)
            except Exception:
                self.fail_if_lost()
                raise
        if self._state is FLYING:
            await self.land_async()
        elif self._state is LEASED and self.region.nbytes > INLINE_BYTES:
            return await self._pool.copier.aside(self._get)
        return self._get()

    async def land_async(self) -> None:
        """Land on a thread of the copier's, where the copy would hold up the loop."""
        if self.region.nbytes <= INLINE_BYTES:
            self.land()
        else:
            reference = weakref.ref(self)  # given up while it waits for the thread, it is dropped at once

            def land_if_wanted() -> None:
                if (handle := reference()) is not None:
                    handle.land()

            await self._pool.copier.aside(land_if_wanted)

    def land(self) -> None:
        """Move the bytes out of the block and leave it; only once the point is complete.

        A read that needs the block calls this, so what goes wrong is for this read's own caller to hear.
        """
        with self._lock:
            slot = self.slot
            if slot is None:
                return
            if self._state is FLYING:
                try:
                    self._result = self._copy_out(slot)
                except Exception as error:
                    self._failure = error.with_traceback(None)  # which would keep the frames of its callers
                    self._state = FAILED
                else:
                    self._state = LANDED
                    self._awaiting = None
                    self._pool.blocks.landed(self, slot)
                    self.slot = None
                    return
            self._leave(slot)

    def end(self, point: Point, result: NDArray[Any] | None = None) -> None:
        """Be complete without a block: ``point`` has passed, and ``result`` has the bytes, if any."""
        region, self.point = self.region, point
        given = result if region.out is None else region.out
        self._result = np.empty(region.shape, region.dtype) if given is None else given
        self._state = LANDED

    def fail_if_lost(self) -> bool:
        """Fail if the submission did, and return whether.

        What else may end a wait (no thread can start that would call back, the handler of a signal raises)
        concerns its caller alone: the device goes on, and the bytes may still come.
        """
        failed = self.point.timeline.failure is not None and not self.point.done
        if failed:
            self.fail()
        return failed

    def fail(self) -> None:
        """Note that the point will never be done: the block is never used again."""
        with self._lock:
            if self._state is FLYING:
                self._state = FAILED
            if self._state is FAILED and (slot := self.slot) is not None:
                self._leave(slot)

    def _leave(self, slot: Slot) -> None:
        """Tell the pool what has become of the read; the lock is held. It may be told again."""
        match self._state:
            case ReadState.LANDED:
                self._pool.blocks.landed(self, slot)
            case ReadState.FAILED:
                self._pool.blocks.failed(self, slot)
            case ReadState.CANCELLED:
                self._pool.blocks.cancelled(self, slot)
            case ReadState.LEASED:
                self._pool.blocks.leased_out(self, slot)
                return  # the owned copy that wait gives is made from it
        self.slot = None

    def _lend(self, slot: Slot) -> BlockLease:
        """Return a lease of the block; if it raises, the read is as it was. The lock is held."""
        allocation = slot.allocation
        guard = self._pool.copier.gate
        with guard.here():
            guard.check()
            memory = self.region.bytes_in(view_of(allocation.native), self.place)
            loan = Loan(memory, writable=False, holds=allocation.holds, stale=allocation.stale)
        lease = BlockLease(self.region.lend(loan), loan, slot, self._pool)
        slot.leases.add(loan.reached(slot.leases.discard))
        self._reached = loan.reached()
        self._state = LEASED
        self._pool.blocks.leased_out(self, slot, lease)
        return lease

    def _get(self) -> NDArray[Any]:
        """Return the owned array of a read whose point is complete, or that is over in another way."""
        self.land()
        if (result := self._result) is not None:
            return result
        with self._lock:
            match self._state:
                case ReadState.LEASED:
                    return self._copy_leased()
                case ReadState.CANCELLED:
                    raise Cancelled(
                        "this readback was cancelled (or its pool closed) before its bytes were taken"
                    )
                case _:
                    if self._failure is None:
                        self.point.wait(0)  # raises what made it fail
                    raise copy_exception(
                        self._failure or Closed("the device was closed before these bytes were taken")
                    )

    def _copy_leased(self) -> NDArray[Any]:
        """Return an owned copy of what is leased; the lock is held."""
        token = self._reached() if self._reached is not None else None  # keeps the block while it is copied
        if token is None or self.slot is None:
            raise StateError("the bytes of this readback were leased, and the lease was released")
        self._result = self._copy_out(self.slot)
        return self._result

    def _copy_out(self, slot: Slot) -> NDArray[Any]:
        pool = self._pool
        guard = pool.copier.gate
        with guard.here():  # the block must not go with its device while it is looked at
            if guard.closed:
                guard.check()
            view = slot.view
            if view is None:
                view = view_of(slot.allocation.native)
                if slot.unread > 1:  # of a batch
                    slot.view = view
            return land(self.region, view, self.place, pool.results, pool.copier)

    def _land_pieces(self, deadline: Deadline | None) -> None:
        """Move pieces out of the block as they come, while the device copies the rest.

        No lock is held meanwhile, so another thread may cancel the read or land it: the bytes count if the
        read is not over by then.
        """

        def wait(point: FencePoint) -> bool:
            self._wait(point, None if deadline is None else deadline.timeout)
            return self._state is FLYING

        if (slot := self.slot) is None:
            return
        result = land_pieces(self, slot, self._pool, wait)
        with self._lock:
            if result is not None and self._state is FLYING:
                self._result, self._state, self._awaiting = result, LANDED, None
                self._leave(slot)

    def _wait(self, point: FencePoint, timeout: float | None) -> None:
        """Wait for a point, or until the read is over in another way: a cancel cannot settle the point."""
        try:
            self.point.timeline.wait(point.value, timeout, self._is_over)
        except FenceTimeout:
            if self._state is FLYING:
                raise  # it may still come
        except Exception:
            self.fail_if_lost()
            raise

    def _is_over(self) -> bool:
        return self._state is not FLYING

    def _refuse_in_child(self) -> None:
        """Raise :class:`Forked` in a child: the block is the parent's, and so are the threads that copy."""
        if type(ended := self._pool.life.ended) is Forked:
            raise copy_exception(ended)

    def _on_over(self, callback: Settled) -> None:
        """Call back once the point is settled or the read is cancelled, perhaps for either."""
        with self._lock:
            flying = self._state is FLYING
            if flying:
                if self._awaiting is None:
                    self._awaiting = []
                self._awaiting.append(callback)
        if flying:
            self.point.on_done(callback)
        else:
            callback(self.point, None)

    def _forget(self, callback: Settled) -> None:
        """Do not call back any more."""
        with self._lock:
            if self._awaiting is not None:
                self._awaiting = [other for other in self._awaiting if other is not callback]
        forget(self.point, callback)
