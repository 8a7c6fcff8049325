"""One read on its way home, the handle that its caller holds, and the lease."""

from __future__ import annotations

import enum
import os
import threading
import time
import weakref
from collections.abc import Generator
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.deadline import Deadline
from forge3d_core.errors import Cancelled, Closed, FenceTimeout, Forked, StateError, copy_exception
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.copying import HostCopier
from forge3d_core.memory.views import Loan
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import FencePoint
from forge3d_core.readback.blocks import Promise
from forge3d_core.readback.region import Region
from forge3d_core.timeline.points import Settled, forget, known, wait_callback
from forge3d_core.units import format_bytes

INLINE_BYTES = 64 * 1024
"""Up to here a coroutine copies on its own loop; more would hold up the loop's other tasks."""

LEASH_SECONDS = 0.05
"""How long a wait for the device goes on before it looks up: a cancel elsewhere ends it by then."""


class OperationHost(Protocol):
    """What a read needs of its pool."""

    def give_back(self, operation: Operation) -> None: ...

    def landed(self, nbytes: int, seconds: float) -> None: ...

    def cancelled(self) -> None: ...

    def failed(self) -> None: ...


class _State(enum.Enum):
    FLYING = "flying"  # holds a block, bytes perhaps there already
    LANDED = "landed"  # bytes are in the result array
    LEASED = "leased"  # holds a block that arrays show
    SPENT = "spent"  # the lease was released, the bytes are gone
    CANCELLED = "cancelled"  # the device may still write the block
    FAILED = "failed"  # its submission did, or moving the bytes out of the block


@attrs.define(eq=False)
class Operation:
    """One read. It is pending while it has a block; ``promise`` tells the pool's blocks that it has.

    What its caller does not hold any more, a handle or a lease, is seen by the next look.
    """

    pool: OperationHost
    copier: HostCopier
    region: Region
    block: Allocation | None
    point: FencePoint
    promise: Promise = attrs.field(factory=Promise)
    handle: weakref.ref[Handle] | None = attrs.field(default=None, init=False)
    started: float = attrs.field(factory=time.perf_counter, init=False)
    _result: NDArray[Any] | None = attrs.field(default=None, init=False)
    _failure: Exception | None = attrs.field(default=None, init=False)  # None: the point has one
    _lease: weakref.ref[BlockLease] | None = attrs.field(default=None, init=False)
    _reached: weakref.ref[Any] | None = attrs.field(default=None, init=False)  # alive until the lease is over
    _awaiting: list[Settled] = attrs.field(factory=list, init=False)  # whom a cancel has to wake
    _state: _State = attrs.field(default=_State.FLYING, init=False)
    _lock: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _process: int = attrs.field(factory=os.getpid, init=False)

    @property
    def state(self) -> str:
        """What is known of it, without asking."""
        return "complete" if self._state is _State.FLYING and known(self.point) else self._state.value

    @property
    def movable(self) -> bool:
        """Whether the block can be had back by waiting for the device and landing."""
        return self._state is not _State.LEASED

    @property
    def is_cancelled(self) -> bool:
        return self._state is _State.CANCELLED

    @property
    def is_complete(self) -> bool:
        return self._state in (_State.LANDED, _State.LEASED) or self.point.done

    def check(self) -> None:
        """Raise :class:`Forked` in a child: the block is the parent's, and so are the threads that copy."""
        if self._process != os.getpid():
            raise Forked(
                f"this readback belongs to process {self._process}, the parent; GPU state does not survive a "
                "fork: take its bytes there, or open a device in the child"
            )

    def take(self, deadline: Deadline) -> NDArray[Any]:
        """Wait, and return the owned array."""
        self.check()
        if self._state is _State.FLYING:
            self._await(deadline)
        return self.land_and_get()

    async def take_async(self) -> NDArray[Any]:
        """Do what ``take`` does for a coroutine, without holding up its loop."""
        self.check()
        if not self.is_complete and not self.is_cancelled:
            try:
                await wait_callback(self.on_over, self.forget)
            except Exception:
                self.fail_if_lost()
                raise
        if self._state is not _State.LANDED:
            await self.land_async()
        return self.land_and_get()

    async def land_async(self) -> None:
        """Land on a thread of the copier's, where the copy would hold up the loop."""
        if self.region.nbytes <= INLINE_BYTES:
            self.land()
        else:
            await self.copier.aside(self.land)

    def land_and_get(self) -> NDArray[Any]:
        """Return the owned array of a read whose point is complete."""
        self.check()
        self.land()
        with self._lock:
            if self._state is _State.LEASED and self._result is None:
                self._result = self._copy_out()
            if self._result is not None:
                return self._result
            if self._state is _State.CANCELLED:
                raise Cancelled(
                    "this readback was cancelled (or its pool closed) before its bytes were taken"
                )
            if self._state is _State.FAILED:
                if self._failure is None:
                    self.point.wait(0)  # raises what made it fail
                raise copy_exception(
                    self._failure or Closed("the device was closed before these bytes were taken")
                )
            raise StateError("the bytes of this readback were leased, and the lease was released")

    def land(self) -> None:
        """Move the bytes out of the block and give it back; only once the point is complete.

        Whoever needs the block calls this, so what goes wrong is for the read's own caller to hear.
        A cancelled read is asked for its bytes at any time: then the device may still write them.
        """
        with self._lock:
            if self._state is _State.FLYING:
                try:
                    self._result = self._copy_out()
                except Exception as error:
                    self._failure = error.with_traceback(None)  # which would keep the frames of who called
                    self._state = _State.FAILED
                    self.pool.failed()
                else:
                    self._state = _State.LANDED
                    self._awaiting.clear()
                    self.pool.landed(self.region.nbytes, time.perf_counter() - self.started)
            if self._state is not _State.CANCELLED or self.point.done:
                self._part()

    def lease(self, deadline: Deadline) -> BlockLease:
        """Wait, and lend the block itself (or the owned array, if the bytes have landed)."""
        self.check()
        if self._state is _State.FLYING:
            self._await(deadline)
        with self._lock:
            if self._state is _State.LEASED:
                raise StateError("this readback is leased already; release that lease first")
            if self._state is not _State.FLYING or self.block is None:
                return BlockLease(None, None, self.land_and_get())
            lease = self._lend(self.block)
            self._lease, self._state = weakref.ref(lease), _State.LEASED
            self.pool.landed(self.region.nbytes, time.perf_counter() - self.started)
        return lease

    def _lend(self, block: Allocation) -> BlockLease:
        """Return a lease of the block; if it raises, the read is as it was."""
        with self.copier.gate.passing():
            memory = self.region.bytes_in(block.native)
            loan = Loan(memory, writable=False, holds=block.holds, stale=block.stale)
        lease = BlockLease(self, loan, self.region.lend(loan))
        self._reached = loan.reached()
        return lease

    def settle(self) -> None:
        """See whether the read is given up, its lease over, or the block of a cancelled one free."""
        if self._state is _State.FLYING and self.handle is not None and self.handle() is None:
            self.cancel()
        if self._state is _State.LEASED:
            self.end_lease()
        if self.block is None or (self._state is _State.CANCELLED and self.point.done):
            self.land()

    def end_lease(self) -> None:
        """Give the block of a lease back once it is released, or dropped with all its arrays.

        The pool uses it again when Python does not reach it any more.
        """
        if self._process != os.getpid():
            return  # the parent's to give back
        with self._lock:
            if self._state is _State.LEASED and self._reached is not None and self._reached() is None:
                self._state = _State.SPENT
                self._part()

    def revoke(self) -> None:
        """Empty the lease's array because the device closes; derived arrays keep the block alive."""
        with self._lock:  # or a lease that is being made now would be missed
            lease = self._lease() if self._lease is not None else None
        if lease is not None:
            lease.release()

    def cancel(self) -> None:
        """Give up, if the bytes have not landed."""
        if self._process != os.getpid():
            return  # the parent's to give up
        awaiting: list[Settled] = []
        with self._lock:
            if self._state is _State.FLYING:
                self._state = _State.CANCELLED
                self.pool.cancelled()
                awaiting, self._awaiting = self._awaiting, []
        for wake in awaiting:
            wake(self.point, None)

    def on_over(self, callback: Settled) -> None:
        """Call back once the point is settled or the read is cancelled, perhaps for either."""
        with self._lock:
            flying = self._state is _State.FLYING
            if flying:
                self._awaiting.append(callback)
        if flying:
            self.point.on_done(callback)
        else:
            callback(self.point, None)

    def forget(self, callback: Settled) -> None:
        """Do not call back any more."""
        with self._lock:
            self._awaiting = [other for other in self._awaiting if other is not callback]
        forget(self.point, callback)

    def fail_if_lost(self) -> bool:
        """Fail if the submission did, and return whether.

        What else may end a wait (no thread can start that would call back, the handler of a signal raises)
        is the waiting caller's trouble: the device goes on, and the bytes may still come.
        """
        failed = self.point.timeline.failure is not None and not self.point.done
        if failed:
            self.fail()
        return failed

    def fail(self) -> None:
        """Note that the point will never be done: the block is never used again."""
        with self._lock:
            if self._state is _State.FLYING:
                self._state = _State.FAILED
                self.pool.failed()
                self._part()

    def _part(self) -> None:
        """Give back the block of a read that is over, if it has one; under the lock."""
        if self._state is not _State.LEASED:
            self.block = self.promise.block = None  # in one step; that it is not pending follows
            self.pool.give_back(self)

    def _await(self, deadline: Deadline) -> None:
        """Wait for the point, or until the read is over in another way: a cancel cannot settle the point."""
        while self._state is _State.FLYING:
            left = deadline.left(LEASH_SECONDS)
            try:
                self.point.wait(left)
            except FenceTimeout:
                if left < LEASH_SECONDS and self._state is _State.FLYING:
                    raise  # it may still come
            except Exception:
                self.fail_if_lost()
                raise
            else:
                return

    def _copy_out(self) -> NDArray[Any]:
        result = self.region.result()
        if self.block is not None:
            with self.copier.gate.passing():  # the block must not go with its device while it is looked at
                rows = self.region.rows(self.region.bytes_in(self.block.native))
                self.copier.copy(result.reshape(-1).view(np.uint8).reshape(rows.shape), rows)
        return result


@presents(protocols.Lease, array="lease.array")
class BlockLease:
    """See :class:`forge3d_core.protocols.Lease`."""

    def __init__(self, operation: Operation | None, loan: Loan | None, array: NDArray[Any]) -> None:
        self._operation = operation
        self._loan = loan
        self._array: NDArray[Any] | None = array
        if loan is None:  # an owned array: nothing to give back, but as read-only as a block's
            self._array = array.view()
            self._array.flags.writeable = False

    @property
    def array(self) -> NDArray[Any]:
        if self._array is None:
            raise StateError("this lease was released; its memory may hold other bytes by now")
        return self._array

    def __repr__(self) -> str:
        array = self._array
        return line("lease, released" if array is None else f"lease of {array.dtype} {array.shape}")

    def release(self) -> None:
        self._array = None
        loan, self._loan = self._loan, None
        if loan is not None and self._operation is not None:
            loan.surrender()
            self._operation.end_lease()

    def __enter__(self) -> NDArray[Any]:
        return self.array

    def __exit__(self, *exc_info: object) -> None:
        self.release()


@presents(protocols.ReadbackHandle, array="handle.wait()")
class Handle:
    """See :class:`forge3d_core.protocols.ReadbackHandle`."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        operation.handle = weakref.ref(self)  # dropped, it gives its block back

    def __repr__(self) -> str:
        region = self._operation.region
        what = f"readback of {format_bytes(region.nbytes)} as {region.dtype} {region.shape}"
        return line(what, self._operation.state)

    @property
    def is_complete(self) -> bool:
        return self._operation.is_complete

    @property
    def point(self) -> FencePoint:
        return self._operation.point

    def wait(self, timeout: float | None = None) -> NDArray[Any]:
        return self._operation.take(Deadline.after(timeout))

    def try_get(self) -> NDArray[Any] | None:
        self._operation.check()
        if not self.is_complete and not self._operation.is_cancelled:
            self._raise_failure()
            return None
        return self._operation.land_and_get()

    def lease(self, timeout: float | None = None) -> BlockLease:
        return self._operation.lease(Deadline.after(timeout))

    def cancel(self) -> None:
        self._operation.cancel()

    def __await__(self) -> Generator[Any, None, NDArray[Any]]:
        return self._take().__await__()

    async def _take(self) -> NDArray[Any]:  # whose frame keeps the handle
        return await self._operation.take_async()

    def _raise_failure(self) -> None:
        if self._operation.fail_if_lost():
            self.point.wait(0)
