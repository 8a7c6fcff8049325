"""Fences that lie about what is complete."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import ForgeError, UsageError


@mutant("fence.completed-steps-back", breaks="fence.monotonic", because="completed decreased")
class CompletedStepsBack(Layer):
    """Every fifth look at completed shows the value before."""

    class Timeline(Layer.Timeline):
        looks = 0

        @property
        def completed(self) -> int:
            self.looks += 1
            value: int = self.target.completed
            return max(0, value - 1) if self.looks % 5 == 0 else value


@mutant("fence.submitted-lags", breaks="fence.monotonic", because="exceeds submitted|after 1 submissions")
class SubmittedLags(Layer):
    """The submitted value is one behind the newest submission."""

    class Timeline(Layer.Timeline):
        @property
        def submitted(self) -> int:
            return max(0, int(self.target.submitted) - 1)


@mutant("fence.values-leave-gaps", breaks="fence.monotonic", because="has value")
class ValuesLeaveGaps(Layer):
    """Submissions are numbered in twos."""

    class Point(Layer.Point):
        @property
        def value(self) -> int:
            return 2 * int(self.target.value)


@mutant("fence.values-are-raced", breaks="fence.monotonic", because="not one value each")
class ValuesAreRaced(Layer):
    """A submission's value is read after it was made, without a lock: two on two threads may get one."""

    class Device(Layer.Device):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.between = 0
            self.met = threading.Event()

        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            self.real.submit(commands, lane=lane, after=after)
            self.between += 1  # wait a little for another thread to come between, which it need not
            if self.between > 1:
                self.met.set()
            self.met.wait(0.005)
            self.between -= 1
            timeline = self.lanes[lane].timeline
            return timeline.point(timeline.submitted)


@mutant("fence.completed-at-submit", breaks="fence.truth", because="done while the device still held")
class CompletedAtSubmit(Layer):
    """A point is done as soon as it has been submitted."""

    class Point(Layer.Point):
        @property
        def done(self) -> bool:
            return bool(self.target.value <= self.target.timeline.submitted)


@mutant("fence.wait-returns-early", breaks="fence.truth", because="a wait returned while")
class WaitReturnsEarly(Layer):
    """A wait returns when the work has been handed to the driver."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            if self.target.value > self.target.timeline.submitted:
                self.target.wait(timeout)


@mutant("fence.await-returns-early", breaks="fence.truth", because="an await returned while")
class AwaitReturnsEarly(Layer):
    """An await yields to the loop once and takes that for completion."""

    class Point(Layer.Point):
        def __await__(self) -> Any:
            yield


@mutant(
    "fence.done-at-start",
    breaks="fence.truth",
    because="before the end of",
    requires=("concurrent_lanes",),  # where there is but one queue a look at memory may wait for it
)
class DoneAtStart(Layer):
    """A point is done when the work before it is, and the device begins with its own."""

    class Point(Layer.Point):
        @property
        def done(self) -> bool:
            return bool(self.target.timeline.completed >= self.target.value - 1)

        def wait(self, timeout: float | None = None) -> None:
            self.target.timeline.point(self.target.value - 1).wait(timeout)


class DoneBefore(Layer):
    """A list with a command of one kind is done 50 ms before the device begins with it."""

    class Commands(Layer.Commands):
        slow = False

    class Device(Layer.Device):
        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            if not commands.slow:
                return self.real.submit(commands, lane=lane, after=after)
            aside = self.target.create_buffer(4)
            point = self.real.submit(self.target.command_list().fill(aside, 1), lane=lane, after=after)

            def begin() -> None:
                with contextlib.suppress(ForgeError):  # the device may be closed by then
                    self.target.submit(commands.target, lane=lane)

            point.on_done(lambda _point, _error: threading.Timer(0.05, begin).start())
            return point


@mutant("fence.copy-done-before", breaks="fence.truth", because="not show|before the end|memory after")
class CopyDoneBefore(DoneBefore):
    """A list that copies is done 50 ms before the device begins with it."""

    class Commands(DoneBefore.Commands):
        def copy(self, *args: Any, **kwargs: Any) -> Any:
            self.slow = True
            return self.real.copy(*args, **kwargs)


@mutant("fence.dispatch-done-before", breaks="fence.truth", because="not show|before the end|memory after")
class DispatchDoneBefore(DoneBefore):
    """A list that dispatches a kernel is done 50 ms before the device begins with it."""

    class Commands(DoneBefore.Commands):
        def dispatch(self, *args: Any, **kwargs: Any) -> Any:
            self.slow = True
            return self.real.dispatch(*args, **kwargs)


@mutant("fence.one-early", breaks="fence.not-early", because="says done")
class OneEarly(Layer):
    """A point is done when the one before it is."""

    class Point(Layer.Point):
        @property
        def done(self) -> bool:
            return bool(self.target.timeline.completed >= self.target.value - 1)


@mutant("fence.completed-is-submitted", breaks="fence.not-early", because="completed ran past")
class CompletedIsSubmitted(Layer):
    """The completed value is the submitted one."""

    class Timeline(Layer.Timeline):
        @property
        def completed(self) -> int:
            return int(self.target.submitted)


@mutant("fence.past-is-asked-again", breaks="fence.past-is-free", because="passed value|must not wait")
class PastIsAskedAgain(Layer):
    """A passed value is answered by asking after the newest submission."""

    class Point(Layer.Point):
        @property
        def newest(self) -> Any:
            timeline = self.target.timeline
            return timeline.point(max(self.target.value, timeline.submitted))

        @property
        def done(self) -> bool:
            return bool(self.newest.done)

        def wait(self, timeout: float | None = None) -> None:
            self.newest.wait(timeout)


@mutant(
    "fence.past-is-awaited-again", breaks="fence.past-is-free", because="must not wait|did not end within"
)
class PastIsAwaitedAgain(Layer):
    """An await of a passed value waits for the newest submission."""

    class Point(Layer.Point):
        def __await__(self) -> Any:
            timeline = self.target.timeline
            return timeline.point(max(self.target.value, timeline.submitted)).__await__()


@mutant("fence.past-calls-back-later", breaks="fence.past-is-free", because="must not wait|did not come")
class PastCallsBackLater(Layer):
    """The callback of a passed value comes after the newest submission."""

    class Point(Layer.Point):
        def on_done(self, callback: Any) -> None:
            timeline = self.target.timeline
            newest = timeline.point(max(self.target.value, timeline.submitted))
            newest.on_done(lambda _newest, error: callback(self, error))


@mutant("fence.query-waits", breaks="fence.nonblocking-query", because="must not wait")
class QueryWaits(Layer):
    """A look at completed first waits for the device."""

    class Timeline(Layer.Timeline):
        @property
        def completed(self) -> int:
            self.target.point(self.target.submitted).wait(5)
            return int(self.target.completed)


@mutant(
    "fence.query-raises",
    breaks="fence.nonblocking-query",
    because="a failed point raised",
    requires=("lose",),
)
class QueryRaises(Layer):
    """A look at a failed point raises the failure."""

    class Point(Layer.Point):
        @property
        def done(self) -> bool:
            if self.target.timeline.failure is not None:
                raise self.target.timeline.failure
            return bool(self.target.done)


@mutant(
    "fence.after-is-ignored",
    breaks="fence.cross-lane",
    because="nothing was raised|did not wait",
    requires=("concurrent_lanes",),
)
class AfterIsIgnored(Layer):
    """A submission does not wait for the points that it names."""

    class Device(Layer.Device):
        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            return self.real.submit(commands, lane=lane)


@mutant("fence.after-blocks-the-host", breaks="fence.cross-lane", because="must not wait")
class AfterBlocksTheHost(Layer):
    """submit itself waits for the points that it names."""

    class Device(Layer.Device):
        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            points = list(after)
            for point in points:
                point.wait(5)
            return self.real.submit(commands, lane=lane, after=points)


@mutant(
    "fence.after-is-the-first",
    breaks="fence.cross-lane",
    because="after two points.*nothing was raised",
    requires=("concurrent_lanes",),
)
class AfterIsTheFirst(Layer):
    """A submission waits for the first of the points that it names."""

    class Device(Layer.Device):
        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            return self.real.submit(commands, lane=lane, after=list(after)[:1])


@mutant(
    "fence.after-is-read-twice",
    breaks="fence.cross-lane",
    because="after two points.*nothing was raised",
    requires=("concurrent_lanes",),
)
class AfterIsReadTwice(Layer):
    """The points are looked through before they are waited for, and a generator has none left by then."""

    class Device(Layer.Device):
        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            if any(point.value < 1 for point in after):
                raise UsageError("nobody submitted value 0")
            return self.real.submit(commands, lane=lane, after=after)


@mutant(
    "fence.after-delays-the-point",
    breaks="fence.cross-lane",
    because="memory that .* held",
    requires=("concurrent_lanes", "peek"),
)
class AfterDelaysThePoint(Layer):
    """The work begins at once, and what comes after the points that it names is only its own point."""

    class Device(Layer.Device):
        def submit(self, commands: Any, *, lane: str = "compute", after: Any = ()) -> Any:
            points = list(after)
            begun = self.real.submit(commands, lane=lane)
            if not points:
                return begun
            begun.wait(1)
            aside = self.target.create_buffer(4)
            return self.real.submit(self.target.command_list().fill(aside, 1), lane=lane, after=points)
