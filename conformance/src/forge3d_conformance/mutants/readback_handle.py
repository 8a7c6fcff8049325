"""Handles that are mixed up, spent, kept, or recycled too soon."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.mutants.landing import Altered, Noted, peer
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import Busy, Cancelled, FenceTimeout, StateError


@mutant("readback.first-come", breaks="readback.any-order", because="values differ")
class FirstCome(Altered):
    """Whoever waits first gets the oldest read's bytes."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        oldest: NDArray[Any] = handle.pool.queue.popleft().wait(5)
        return oldest

    class Pool(Altered.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.queue: deque[Any] = deque()

        def read(self, source: Any, **region: Any) -> Any:
            handle = super().read(source, **region)
            self.queue.append(handle.target)
            return handle


@mutant("readback.only-in-order", breaks="readback.any-order", because="StateError .an earlier read")
class OnlyInOrder(Noted):
    """A read can only be taken after those before it."""

    class Pool(Noted.Pool):
        taken = -1

    class Handle(Noted.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            if self.index > self.pool.taken + 1:
                raise StateError("an earlier read has not been taken yet")
            self.pool.taken = max(self.pool.taken, self.index)
            return self.target.wait(timeout)


@mutant("readback.bound-to-its-thread", breaks="readback.any-order", because="StateError .this read belongs")
class BoundToItsThread(Noted):
    """A read can only be taken by the thread that started it."""

    class Pool(Noted.Pool):
        def noted(self, handle: Any, source: Any, region: dict[str, Any]) -> Any:
            handle.thread = threading.get_ident()
            return super().noted(handle, source, region)

    class Handle(Noted.Handle):
        thread: int

        def wait(self, timeout: float | None = None) -> Any:
            if threading.get_ident() != self.thread:
                raise StateError("this read belongs to another thread")
            return self.target.wait(timeout)


@mutant("readback.each-waiter-copies", breaks="readback.any-order", because="got different arrays")
class EachWaiterCopies(Layer):
    """Threads that wait for one read at once each copy its bytes."""

    class Handle(Layer.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            complete = self.target.is_complete
            array = self.target.wait(timeout)
            return array if complete else array.copy()


@mutant("readback.copy-each-time", breaks="readback.idempotent", because="another array than before")
class CopyEachTime(Layer):
    """Each wait copies anew."""

    class Handle(Layer.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            return self.target.wait(timeout).copy()


@mutant("readback.taken-once", breaks="readback.idempotent", because="a second wait raised")
class TakenOnce(Layer):
    """The bytes can be taken once."""

    class Handle(Layer.Handle):
        taken = False

        def wait(self, timeout: float | None = None) -> Any:
            if self.taken:
                raise StateError("this read was taken already")
            array = self.target.wait(timeout)
            self.taken = True
            return array

        def try_get(self) -> Any:
            array = self.target.try_get()
            self.taken = array is not None
            return array


@mutant("readback.try-empties", breaks="readback.idempotent", because="another array than before")
class TryEmpties(Layer):
    """try_get gives the bytes once and None from then on."""

    class Handle(Layer.Handle):
        given = False

        def try_get(self) -> Any:
            array = None if self.given else self.target.try_get()
            self.given = self.given or array is not None
            return array


@mutant("readback.block-is-shown", breaks="readback.idempotent", because="after later reads")
class BlockIsShown(Altered):
    """wait gives a view of the block, which the next read uses again."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        block = getattr(handle.pool, "block", None)
        if block is None or block.nbytes != array.nbytes:
            block = handle.pool.block = np.empty_like(array)
        np.copyto(block, array)
        shown: NDArray[Any] = block
        return shown


@mutant("readback.pressed-out", breaks="readback.idempotent", because="one of many arrays")
class PressedOut(Altered):
    """A read that is not taken before its block is needed shows what comes after it."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        return array + np.uint8(1) if handle.superseded else array


class Kept(Noted):
    """Reads that were given up keep their blocks for good, once they have landed."""

    class Pool(Noted.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.given_up: list[Any] = []
            self.leases: list[Any] = []

        def read(self, source: Any, **region: Any) -> Any:
            while self.given_up and self.given_up[0].is_complete:
                with suppress(Cancelled):
                    self.leases.append(self.given_up.pop(0).lease(5))
            return super().read(source, **region)


@mutant("readback.dropped-keeps-its-block", breaks="readback.abandoned", because="dropped: Busy")
class DroppedKeepsItsBlock(Kept):
    """A handle that is dropped does not give its block back."""

    class Pool(Kept.Pool):
        def noted(self, handle: Any, source: Any, region: dict[str, Any]) -> Any:
            weakref.finalize(handle, self.given_up.append, handle.target).atexit = False
            return super().noted(handle, source, region)


@mutant("readback.cancelled-keeps-its-block", breaks="readback.abandoned", because="cancelled: Busy")
class CancelledKeepsItsBlock(Kept):
    """A handle that is cancelled does not give its block back."""

    class Handle(Kept.Handle):
        cancelled = False

        def cancel(self) -> None:
            if not self.cancelled:
                self.cancelled = True
                self.pool.given_up.append(self.target)


@mutant("readback.recycled-too-soon", breaks="readback.abandoned", because="while the device still wrote it")
class RecycledTooSoon(Noted):
    """The block of a cancelled read is used at once, while the device still writes it."""

    class Pool(Noted.Pool):
        cancelled = 0

        def read(self, source: Any, **region: Any) -> Any:
            try:
                return super().read(source, **region)
            except Busy:
                if not self.cancelled:
                    raise
                self.other = peer(self)
                return self.layer.wrap("Handle", self.other.read(source.target, **region))

    class Handle(Noted.Handle):
        def cancel(self) -> None:
            self.pool.cancelled += 1
            self.target.cancel()


@mutant(
    "readback.cancelled-all-the-same", breaks="readback.abandoned", because="did not return while .* held"
)
class CancelledAllTheSame(Layer):
    """cancel does nothing."""

    class Handle(Layer.Handle):
        def cancel(self) -> None:
            return


@mutant("readback.cancelled-twice", breaks="readback.abandoned", because="StateError: cancelled already")
class CancelledTwice(Layer):
    """A second cancel is an error."""

    class Handle(Layer.Handle):
        cancelled = False

        def cancel(self) -> None:
            if self.cancelled:
                raise StateError("cancelled already")
            self.cancelled = True
            self.target.cancel()


@mutant("readback.cancelled-too-late", breaks="readback.abandoned", because="Cancelled: too late")
class CancelledTooLate(Layer):
    """cancel throws away what has been taken."""

    class Handle(Layer.Handle):
        taken = cancelled = False

        def wait(self, timeout: float | None = None) -> Any:
            if self.cancelled:
                raise Cancelled("too late, and gone all the same")
            array = self.target.wait(timeout)
            self.taken = True
            return array

        def cancel(self) -> None:
            self.cancelled = self.taken
            self.target.cancel()


@mutant("readback.cancelled-hangs", breaks="readback.abandoned", because="FenceTimeout")
class CancelledHangs(Layer):
    """A wait for a cancelled read is never woken."""

    class Handle(Layer.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            try:
                return self.target.wait(timeout)
            except Cancelled:
                raise FenceTimeout("nobody woke this waiter") from None


class GivenUp(Layer):
    """A base of mutants: a handle that knows whether it was cancelled."""

    class Handle(Layer.Handle):
        given_up = False

        def cancel(self) -> None:
            self.given_up = True
            self.target.cancel()


@mutant("readback.cancelled-wakes-late", breaks="readback.abandoned", because="did not return while .* held")
class CancelledWakesLate(GivenUp):
    """Who waits for a read when it is cancelled finds out once the device is done with it."""

    class Handle(GivenUp.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            if not self.given_up:
                self.target.point.wait(timeout)
            return self.target.wait(timeout)


@mutant(
    "readback.cancelled-await-sleeps", breaks="readback.abandoned", because="did not return while .* held"
)
class CancelledAwaitSleeps(GivenUp):
    """Who awaits a read when it is cancelled finds out once the device is done with it."""

    class Handle(GivenUp.Handle):
        def __await__(self) -> Any:
            return self.taken().__await__()

        async def taken(self) -> Any:
            if not self.given_up:
                await self.target.point
            return await self.target


@mutant("readback.close-forgets", breaks="readback.abandoned", because="whose pool was closed: nothing was")
class CloseForgets(Layer):
    """Closing a pool leaves its reads pending."""

    class Pool(Layer.Pool):
        def close(self) -> None:
            return
