"""Devices that do not notice that they are closed or lost, or whose an object is."""

from __future__ import annotations

import threading
from typing import Any

from forge3d_conformance.mutants import fence_waits
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap
from forge3d_core.errors import Closed, DeviceLost, FenceTimeout, ForeignObject, SliceSpent


@mutant("device.list-after-close", breaks="device.closed", because="device.command_list.*nothing was raised")
class ListAfterClose(Layer):
    """A closed device still hands out command lists, because that needs no driver."""

    class Device(Layer.Device):
        spare: Any = None

        def command_list(self, *, label: str = "") -> Any:
            try:
                made = self.real.command_list(label=label)
            except Closed:
                return self.spare
            self.spare = made
            return made


@mutant("device.closed-is-another-error", breaks="device.closed", because="AttributeError.*instead of Closed")
class ClosedIsAnotherError(Layer):
    """A closed ring trips over what close took away."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            try:
                return self.real.allocate(nbytes)
            except Closed:
                raise AttributeError("'NoneType' object has no attribute 'view'") from None


@mutant("device.full-after-close", breaks="device.closed", because="ring.allocate.*nothing was raised")
class FullAfterClose(Layer):
    """A ring of a closed device is full for ever."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            try:
                return self.real.allocate(nbytes)
            except Closed:
                return None


@mutant("device.stream-after-close", breaks="device.closed", because="closed stream")
class StreamAfterClose(Layer):
    """A closed stream takes frames as before, and nobody ever closes them."""

    class Stream(Layer.Stream):
        def close(self) -> None: ...


@mutant("device.close-raises-twice", breaks="device.closed", because="closing again raised")
class CloseRaisesTwice(Layer):
    """The second close raises."""

    class Device(Layer.Device):
        def close(self) -> None:
            if self.target.closed:
                raise Closed("the device was closed before")
            self.target.close()


@mutant("device.close-forgets-the-pool", breaks="device.closed", because="close gave back all but")
class CloseForgetsThePool(Layer):
    """The blocks of pools that were left open are not given back."""

    class Device(Layer.Device):
        kept = 0

        @property
        def budget(self) -> Any:
            return self.layer.wrap("Budget", self.target.budget)

        def readback_pool(self, *args: Any, **kwargs: Any) -> Any:
            pool = self.real.readback_pool(*args, **kwargs)
            self.kept += pool.stats().block_bytes
            return pool

    class Budget(Layer.Budget):
        def metrics(self) -> Any:
            import attrs

            found = self.target.metrics()
            kept = sum(device.kept for device in self.layer.lasting("Device") if device.target.closed)
            if not kept:
                return found
            return attrs.evolve(
                found,
                host_visible_bytes=found.host_visible_bytes + kept,
                total_bytes=found.total_bytes + kept,
            )


@mutant("device.close-waits-for-ever", breaks="device.closed", because="must not wait")
class CloseWaitsForEver(Layer):
    """close waits for all work, however long that takes."""

    class Device(Layer.Device):
        def close(self) -> None:
            if not self.target.closed:
                for lane in self.target.lanes.values():
                    try:
                        lane.timeline.point(lane.timeline.submitted).wait(5)
                    except (DeviceLost, FenceTimeout):
                        pass
            self.target.close()


@mutant("device.given-up-is-done", breaks="device.closed", because="close gave up on: nothing was raised")
class GivenUpIsDone(fence_waits.GivenUpIsDone):
    """Who waits for work that close gave up on is told that it is done."""


@mutant("device.memory-after-close", breaks="device.closed", because="budget.reserve.*nothing was raised")
class MemoryAfterClose(Layer):
    """The budget of a closed device goes on as if it were open."""

    class Budget(Layer.Budget):
        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(*args, **kwargs)
            except Closed:
                return self.layer.wrap("Reservation", object())


@mutant(
    "device.close-forgets-who-waits-for-memory",
    breaks="device.closed",
    because="a wait for memory of a closed device did not come back",
)
class CloseForgetsWhoWaitsForMemory(Layer):
    """Who waits for memory when the device is closed is not told."""

    class Budget(Layer.Budget):
        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            waited = not self.closed
            try:
                return self.real.reserve(*args, **kwargs)
            except Closed:
                if waited and kwargs.get("timeout", 0) is None:
                    threading.Event().wait()
                raise

        @property
        def closed(self) -> bool:
            return any(device.target.closed for device in self.layer.lasting("Device"))


@mutant("device.rows-after-close", breaks="device.closed", because="slice.commit_rows.*nothing was raised")
class RowsAfterClose(Layer):
    """A slice of a closed device still takes rows for a texture."""

    class Slice(Layer.Slice):
        def commit_rows(self, *args: Any, **kwargs: Any) -> None:
            try:
                self.real.commit_rows(*args, **kwargs)
            except (Closed, SliceSpent):
                return


@mutant(
    "device.figures-go-with-it",
    breaks="device.closed",
    because="ring.stats after the device was closed raised",
)
class FiguresGoWithIt(Layer):
    """The figures of a ring cannot be read any more once the device is closed."""

    class Ring(Layer.Ring):
        def stats(self) -> Any:
            if self.target.closed:
                raise Closed("the ring was closed")
            return self.target.stats()


@mutant(
    "device.frames-go-with-it",
    breaks="device.closed",
    because="had landed before the device was closed is gone",
)
class FramesGoWithIt(Layer):
    """Frames that had landed are gone once the device is closed."""

    class Stream(Layer.Stream):
        def latest(self) -> Any:
            closed = all(device.target.closed for device in self.layer.lasting("Device"))
            return None if closed else self.target.latest()


@mutant("device.loss-strands-the-ring", breaks="device.lost", because="full ring.*instead of DeviceLost")
class LossStrandsTheRing(Layer):
    """Who waits for room in a ring is not told of the loss."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            try:
                return self.real.reserve(nbytes, timeout)
            except DeviceLost:
                raise FenceTimeout("nobody woke this waiter") from None


@mutant(
    "device.loss-strands-a-coroutine", breaks="device.lost", because="an await of a read.*(did not|ended)"
)
class LossStrandsACoroutine(Layer):
    """A coroutine that awaits a read is never woken after a loss."""

    class Handle(Layer.Handle):
        def __await__(self) -> Any:
            try:
                return (yield from self.target.__await__())
            except DeviceLost:
                while True:
                    yield


@mutant(
    "device.loss-stays-on-its-lane", breaks="device.lost", because="nobody submitted.*instead of DeviceLost"
)
class LossStaysOnItsLane(Layer):
    """Lanes without work do not hear of the loss."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except DeviceLost:
                if self.target.value > self.target.timeline.submitted:
                    raise FenceTimeout("nothing was ever submitted here") from None
                raise


@mutant("device.loss-told-late", breaks="device.lost", because="was told of the loss after")
class LossToldLate(Layer):
    """Waiters look for a loss every one and a half seconds."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except DeviceLost:
                threading.Event().wait(1.5)
                raise


@mutant("device.loss-recycles", breaks="device.lost", because="handed out after the loss")
class LossRecycles(Layer):
    """A loss ends every submission, and the ring takes what has ended for complete."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            try:
                return self.real.allocate(nbytes)
            except DeviceLost:
                return self.layer.wrap("Slice", object())


@mutant("device.loss-gives-buffers-back", breaks="device.lost", because="was given back")
class LossGivesBuffersBack(Layer):
    """A buffer in flight at the loss counts as free when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.given_back = 0

    class Buffer(Layer.Buffer):
        def close(self) -> None:
            if not self.target.closed:
                self.layer.given_back += self.target.nbytes  # type: ignore[attr-defined]
            self.target.close()

    class Budget(Layer.Budget):
        def metrics(self) -> Any:
            import attrs

            found = self.target.metrics()
            back: int = self.layer.given_back  # type: ignore[attr-defined]
            return attrs.evolve(found, device_local_bytes=max(0, found.device_local_bytes - back))


@mutant("device.foreign-is-taken", breaks="device.foreign", because="nothing was raised")
class ForeignIsTaken(Layer):
    """Nobody asks whose a buffer is."""

    class Commands(Layer.Commands):
        def copy(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.copy(*args, **kwargs)
            except ForeignObject:
                return self


@mutant(
    "device.foreign-is-an-accident", breaks="device.foreign", because="KeyError.*instead of ForeignObject"
)
class ForeignIsAnAccident(Layer):
    """A foreign point is noticed when it is missing in a table."""

    class Device(Layer.Device):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.submit(*args, **kwargs)
            except ForeignObject:
                raise KeyError("lane") from None


@mutant("device.foreign-leaves-a-trace", breaks="device.foreign", because="was refused and changed")
class ForeignLeavesATrace(Layer):
    """A dispatch over a foreign buffer is refused after something has been recorded."""

    class Commands(Layer.Commands):
        def dispatch(self, kernel: Any, buffers: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.dispatch(kernel, buffers, *args, **kwargs)
            except ForeignObject:
                device = self.layer.lasting("Device")[0].target
                scratch = device.create_buffer(4)
                unwrap(self).fill(scratch, 0)
                raise


@mutant("device.foreign-spends-the-slice", breaks="device.foreign", because="commit to|SliceSpent|changed")
class ForeignSpendsTheSlice(Layer):
    """A slice that was to be committed to a foreign buffer is gone."""

    class Slice(Layer.Slice):
        def commit(self, *args: Any, **kwargs: Any) -> None:
            try:
                self.real.commit(*args, **kwargs)
            except ForeignObject:
                self.target.release()
                raise
