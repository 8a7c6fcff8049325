"""Waits that nobody wakes or that end at the wrong time; callbacks that go astray."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import Closed, DeviceLost, FenceTimeout, ForgeError


def never(timeout: float | None) -> None:
    """Be a wait that nobody wakes, without taking the time."""
    if timeout is None:
        threading.Event().wait()
    raise FenceTimeout("nobody woke this waiter")


@mutant("fence.future-is-refused", breaks="fence.wait-before-signal", because="not submitted yet")
class FutureIsRefused(Layer):
    """Waiting for a value that nobody has submitted yet is an error."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            if self.target.value > self.target.timeline.submitted:
                raise ForgeError("this value is not submitted yet")
            self.target.wait(timeout)


@mutant("fence.future-is-never-woken", breaks="fence.wait-before-signal", because="nobody woke")
class FutureIsNeverWoken(Layer):
    """A wait that began before its value was submitted is not told when it comes."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            if self.target.value > self.target.timeline.submitted:
                never(timeout)
            self.target.wait(timeout)


@mutant("fence.future-wakes-for-less", breaks="fence.wait-before-signal", because="ended with a smaller one")
class FutureWakesForLess(Layer):
    """A wait for the future wakes with the next completion, whichever it is."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            timeline = self.target.timeline
            timeline.point(min(self.target.value, timeline.submitted + 1)).wait(timeout)


@mutant("fence.timeout-too-soon", breaks="fence.timeout", because="gave up after")
class TimeoutTooSoon(Layer):
    """A wait gives up after a tenth of its timeout."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            self.target.wait(None if timeout is None else timeout / 10)


class GivesUpLate(Layer):
    """A base of mutants: a wait that times out tells so a second and a half later; wait(0) tells at once."""

    class Point(Layer.Point):
        def late(self) -> bool:
            return False

        def wait(self, timeout: float | None = None) -> None:
            late = bool(timeout) and self.late()
            try:
                self.target.wait(timeout)
            except FenceTimeout:
                if late:
                    threading.Event().wait(1.5)
                raise


@mutant("fence.timeout-too-late", breaks="fence.timeout", because=r"wait\(0\.01\) did not come back within")
class TimeoutTooLate(GivesUpLate):
    """A wait for submitted work looks at its clock only every second and a half."""

    class Point(GivesUpLate.Point):
        def late(self) -> bool:
            return bool(self.target.value <= self.target.timeline.submitted)


@mutant(
    "fence.timeout-of-the-future-too-late",
    breaks="fence.timeout",
    because=r"wait\(0\.05\) did not come back within",
)
class TimeoutOfTheFutureTooLate(GivesUpLate):
    """A wait for a value that nobody submitted looks at its clock only every second and a half."""

    class Point(GivesUpLate.Point):
        def late(self) -> bool:
            return bool(self.target.value > self.target.timeline.submitted)


@mutant("fence.looks-are-waits", breaks="fence.timeout", because=r"wait\(0\) did not come back within")
class LooksAreWaits(Layer):
    """A timeout of 0 is taken for two seconds."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            self.target.wait(2.0 if timeout == 0 else timeout)


@mutant("fence.timeout-is-silent", breaks="fence.timeout", because="nothing was raised")
class TimeoutIsSilent(Layer):
    """A wait that timed out returns as if the work were done."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except FenceTimeout:
                return


@mutant("fence.timeout-says-nothing", breaks="fence.timeout", because="does not name the lane")
class TimeoutSaysNothing(Layer):
    """The timeout names neither the lane nor what is outstanding."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except FenceTimeout:
                raise FenceTimeout("timed out") from None


@mutant("fence.timeout-is-vague", breaks="fence.timeout", because="does not say what is outstanding")
class TimeoutIsVague(Layer):
    """The timeout names the lane and how many waits ended so, not the value that is outstanding."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except FenceTimeout:
                lane = self.target.timeline.name
                raise FenceTimeout(f"1 wait on lane {lane!r} timed out after {timeout} s") from None


@mutant("fence.callback-twice", breaks="fence.any-all", because="not once each")
class CallbackTwice(Layer):
    """The callback of a settled point comes again."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            settled = self.target.done
            self.real.on_done(callback)
            if settled:
                self.real.on_done(callback)


@mutant("fence.failure-calls-twice", breaks="fence.any-all", because="failed points came .* not once each")
class FailureCallsTwice(Layer):
    """A point that fails calls back twice: who fails it and who notices that it failed do so both."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            def again(point: Any, error: Exception | None) -> None:
                callback(point, error)
                if error is not None:
                    callback(point, error)

            self.real.on_done(again)


@mutant("fence.callback-is-late", breaks="fence.any-all", because="callback.* did not come back within 1 s")
class CallbackIsLate(Layer):
    """Callbacks come one and a half seconds after their points are settled."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            self.real.on_done(lambda *settled: threading.Timer(1.5, callback, settled).start())


@mutant("fence.callback-at-once", breaks="fence.any-all", because="came while their points were held")
class CallbackAtOnce(Layer):
    """The callback is called when it is registered."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            callback(self, None)


@mutant("fence.callback-comes-too-late", breaks="fence.any-all", because="settled already did not come")
class CallbackComesTooLate(Layer):
    """A callback registered on a settled point is never called."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            if not self.target.done:
                self.real.on_done(callback)


@mutant("fence.callback-hides-the-error", breaks="fence.any-all", because="failed points brought .None")
class CallbackHidesTheError(Layer):
    """The callback of a failed point says that all is well."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            self.real.on_done(lambda point, _error: callback(point, None))


@mutant("fence.one-waiter-wakes", breaks="fence.many-waiters", because="left behind")
class OneWaiterWakes(Layer):
    """Of all the threads that wait for a value only the first is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[int] = set()

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            waiting = self.layer.waiting  # type: ignore[attr-defined]
            if timeout is not None and timeout > 1:
                if self.target.value in waiting:
                    never(timeout)
                waiting.add(self.target.value)
            self.target.wait(timeout)


@mutant(
    "fence.one-coroutine-wakes",
    breaks="fence.many-waiters",
    because="coroutines .* did not",
)
class OneCoroutineWakes(Layer):
    """Of all the coroutines that await a point only the first is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[int] = set()

    class Point(Layer.Point):
        def __await__(self) -> Any:
            waiting = self.layer.waiting  # type: ignore[attr-defined]
            if self.target.value in waiting:
                return self.target.timeline.point(self.target.value + 1).__await__()
            waiting.add(self.target.value)
            return self.target.__await__()


@mutant(
    "fence.failure-told-once",
    breaks="fence.failure-sticks",
    because="nothing was raised",
)
class FailureToldOnce(Layer):
    """The first wait raises the failure, later ones return."""

    def __init__(self) -> None:
        super().__init__()
        self.told = False

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except DeviceLost:
                if self.layer.told:  # type: ignore[attr-defined]
                    return
                self.layer.told = True  # type: ignore[attr-defined]
                raise


@mutant("fence.last-failure-wins", breaks="fence.failure-sticks", because="Closed.* instead of DeviceLost")
class LastFailureWins(Layer):
    """Closing a lost device makes Closed its lanes' failure."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    class Device(Layer.Device):
        def close(self) -> None:
            self.target.close()
            self.layer.closed = True  # type: ignore[attr-defined]

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except DeviceLost:
                if self.layer.closed:  # type: ignore[attr-defined]
                    raise Closed("the device was closed") from None
                raise


@mutant("fence.failure-reaches-back", breaks="fence.failure-sticks", because="complete is not done any more")
class FailureReachesBack(Layer):
    """After a failure values that were complete are not any more."""

    class Point(Layer.Point):
        @property
        def done(self) -> bool:
            return self.target.timeline.failure is None and bool(self.target.done)


@mutant(
    "fence.loss-wakes-nobody", breaks="fence.failure-sticks", because="FenceTimeout.*instead of DeviceLost"
)
class LossWakesNobody(Layer):
    """Who waits when the device is lost is never told."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except DeviceLost:
                never(timeout)


@mutant("fence.close-wakes-nobody", breaks="fence.close-wakes", because="FenceTimeout.*instead of Closed")
class CloseWakesNobody(Layer):
    """Who waits for the future when the device is closed is never told."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except Closed:
                never(timeout)


@mutant("fence.close-pretends", breaks="fence.close-wakes", because="nothing was raised")
class ClosePretends(Layer):
    """A wait that close ends returns as if the work were done."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except Closed:
                return


@mutant("fence.given-up-is-done", breaks="fence.close-wakes", because="submitted work that close gave up on")
class GivenUpIsDone(Layer):
    """A wait for submitted work that close gave up on returns as if the work were done."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            try:
                self.target.wait(timeout)
            except Closed:
                if self.target.value > self.target.timeline.submitted:
                    raise


@mutant(
    "fence.given-up-is-forgotten", breaks="fence.close-wakes", because="callback.*brought None|did not come"
)
class GivenUpIsForgotten(Layer):
    """The callback of work that close gave up on says that all is well."""

    class Point(Layer.Point):
        def on_done(self, callback: Callable[[Any, Exception | None], None]) -> None:
            self.real.on_done(
                lambda point, error: callback(point, None if isinstance(error, Closed) else error)
            )
