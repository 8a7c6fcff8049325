"""Budgets that cry wolf, starve who waits, and refuse for the wrong reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, OutOfDeviceMemory
from forge3d_core.protocols import BudgetMetrics


@mutant("budget.mark-calls-while-above", breaks="budget.watermarks", because="marks were called")
class MarkCallsWhileAbove(Layer):
    """A watermark calls on every reservation above it."""

    class Budget(Layer.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.marks: list[tuple[float, Callable[[BudgetMetrics], None]]] = []

        def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Any:
            self.marks.append((fraction, callback))
            return lambda: self.marks.remove((fraction, callback))

        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            reservation = self.real.reserve(*args, **kwargs)
            metrics = self.target.metrics()
            for fraction, callback in self.marks:
                if metrics.host_visible_bytes >= fraction * metrics.limit_bytes:
                    callback(metrics)
            return reservation


@mutant("budget.any-release-re-arms", breaks="budget.watermarks", because="pieces given back one by one")
class AnyReleaseReArms(Layer):
    """Whatever is given back makes every watermark call again, also while use stays above it."""

    class Budget(Layer.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.marks: list[list[Any]] = []

        def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Any:
            mark = [fraction, callback, False]
            self.marks.append(mark)
            return lambda: self.marks.remove(mark)

        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            reservation = self.real.reserve(*args, **kwargs)
            metrics = self.target.metrics()
            for mark in self.marks:
                fraction, callback, called = mark
                if not called and metrics.host_visible_bytes >= fraction * metrics.limit_bytes:
                    mark[2] = True
                    callback(metrics)
            return reservation

        def re_arm(self) -> None:
            for mark in self.marks:
                mark[2] = False

    class Reservation(Layer.Reservation):
        def release(self) -> None:
            self.target.release()
            for budget in self.layer.lasting("Budget"):
                budget.re_arm()

        def __exit__(self, *exc_info: object) -> None:
            self.release()


@mutant("budget.marks-under-a-lock", breaks="budget.watermarks", because="inside a watermark's callback")
class MarksUnderALock(Layer):
    """Watermarks are called with the tracker locked, which only other threads come to feel."""

    class Budget(Layer.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.lock = threading.RLock()

        def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Any:
            def locked(metrics: BudgetMetrics) -> None:
                with self.lock:
                    callback(metrics)

            return self.target.on_watermark(fraction, locked)

        def metrics(self) -> Any:
            with self.lock:
                return self.target.metrics()


@mutant("budget.mark-past-not-at", breaks="budget.watermarks", because="marks were called")
class MarkPastNotAt(Layer):
    """A watermark is crossed only when use has passed it, not when it reaches it."""

    class Budget(Layer.Budget):
        def on_watermark(self, fraction: float, callback: Callable[[BudgetMetrics], None]) -> Any:
            def past(metrics: BudgetMetrics) -> None:
                if metrics.host_visible_bytes > fraction * metrics.limit_bytes:
                    callback(metrics)

            return self.target.on_watermark(fraction, past)


@mutant("budget.mark-stays", breaks="budget.watermarks", because="removed mark was called")
class MarkStays(Layer):
    """Removing a watermark removes nothing."""

    class Budget(Layer.Budget):
        def on_watermark(self, *args: Any) -> Any:
            self.target.on_watermark(*args)
            return lambda: None


@mutant("budget.limit-is-fixed", breaks="budget.adjustable", because="the limit was set to")
class LimitIsFixed(Layer):
    """set_limit is accepted and does nothing."""

    class Budget(Layer.Budget):
        def set_limit(self, nbytes: int | str) -> None:
            pass


@mutant(
    "budget.raise-wakes-nobody",
    breaks="budget.adjustable",
    because="waits for a higher limit|BudgetExhausted",
)
class RaiseWakesNobody(Layer):
    """Who waits does not see a limit that was raised meanwhile."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            if (
                kwargs.get("timeout")
                and self.target.metrics().host_visible_bytes + nbytes > self.target.limit
            ):
                threading.Event().wait()
            return self.real.reserve(nbytes, **kwargs)


@mutant("budget.wait-does-not", breaks="budget.waits", because="refused while others gave back")
class WaitDoesNot(Layer):
    """A reservation with a timeout is refused at once."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            return self.real.reserve(nbytes, **{**kwargs, "timeout": 0.0})


@mutant("budget.wait-never-ends", breaks="budget.waits", because="did not come back")
class WaitNeverEnds(Layer):
    """A reservation that cannot be had waits past its timeout."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(nbytes, **kwargs)
            except BudgetExhausted:
                threading.Event().wait()
                raise


@mutant("budget.wait-ends-late", breaks="budget.waits", because=r"waits 0\.05 s for nobody did not come back")
class WaitEndsLate(Layer):
    """A reservation that cannot be had is refused a second and a half after its timeout."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(nbytes, **kwargs)
            except BudgetExhausted:
                if kwargs.get("timeout"):
                    threading.Event().wait(1.5)
                raise


@mutant(
    "budget.waiters-ask-again",
    breaks="budget.waits",
    because="the whole limit while others.* did not come back",
)
class WaitersAskAgain(Layer):
    """Waiting is asking again and again: who asks for much starves behind those who ask for little."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: int, *, timeout: float | None = 0.0, **kwargs: Any) -> Any:
            end = float("inf") if timeout is None else time.monotonic() + timeout
            while True:
                try:
                    return self.real.reserve(nbytes, **kwargs)
                except BudgetExhausted:
                    if time.monotonic() >= end:
                        raise
                threading.Event().wait(0.001)


@mutant("budget.caches-are-kept", breaks="budget.reclaim-first", because="BudgetExhausted|was not asked")
class CachesAreKept(Layer):
    """Reclaimers are never asked."""

    class Budget(Layer.Budget):
        def add_reclaimer(self, reclaim: Callable[[int], int]) -> Callable[[], None]:
            return lambda: None


@mutant("budget.reclaims-under-its-lock", breaks="budget.reclaim-first", because="did not come back")
class ReclaimsUnderItsLock(Layer):
    """Reclaimers are called with the tracker locked."""

    class Budget(Layer.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.lock: Any = threading.Lock()

        def add_reclaimer(self, reclaim: Callable[[int], int]) -> Any:
            def locked(nbytes: int) -> int:
                with self.lock:
                    return reclaim(nbytes)

            return self.target.add_reclaimer(locked)

        def metrics(self) -> Any:
            with self.lock:
                return self.target.metrics()


@mutant("budget.reclaims-under-a-reentrant-lock", breaks="budget.reclaim-first", because="inside a reclaimer")
class ReclaimsUnderAReentrantLock(ReclaimsUnderItsLock):
    """Reclaimers are called with the tracker locked, which only other threads come to feel."""

    class Budget(ReclaimsUnderItsLock.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.lock = threading.RLock()


@mutant("budget.reclaim-wants-one-byte", breaks="budget.reclaim-first", because="BudgetExhausted|asked for")
class ReclaimWantsOneByte(Layer):
    """Reclaimers are asked for a byte at a time."""

    class Budget(Layer.Budget):
        def add_reclaimer(self, reclaim: Callable[[int], int]) -> Any:
            return self.target.add_reclaimer(lambda nbytes: reclaim(1) if nbytes > 0 else 0)


@mutant("budget.reclaimer-ends-the-call", breaks="budget.reclaim-first", because="LookupError.*instead of")
class ReclaimerEndsTheCall(Layer):
    """What a reclaimer raises is raised by the call that asked for memory."""

    class Budget(Layer.Budget):
        raised: Exception | None = None

        def add_reclaimer(self, reclaim: Callable[[int], int]) -> Any:
            def watched(nbytes: int) -> int:
                try:
                    return reclaim(nbytes)
                except Exception as error:
                    self.raised = error
                    raise

            return self.target.add_reclaimer(watched)

        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(*args, **kwargs)
            finally:
                error, self.raised = self.raised, None
                if error is not None:
                    raise error


@mutant("budget.reclaimer-hides-the-next", breaks="budget.reclaim-first", because="the next was not asked")
class ReclaimerHidesTheNext(Layer):
    """Once a reclaimer has raised, no other is asked."""

    class Budget(Layer.Budget):
        raised = False

        def add_reclaimer(self, reclaim: Callable[[int], int]) -> Any:
            def first(nbytes: int) -> int:
                if self.raised:
                    return 0
                try:
                    return reclaim(nbytes)
                except Exception:
                    self.raised = True
                    raise

            return self.target.add_reclaimer(first)


@mutant("budget.one-refusal-for-all", breaks="budget.three-refusals", because="instead of BudgetExceeded")
class OneRefusalForAll(Layer):
    """What can never fit is refused as if it could later."""

    class Budget(Layer.Budget):
        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(*args, **kwargs)
            except BudgetExceeded as error:
                raise BudgetExhausted(*error.args) from None


@mutant("budget.refusal-without-figures", breaks="budget.three-refusals", because="names no figures")
class RefusalWithoutFigures(Layer):
    """A refusal does not say how much was asked for."""

    class Budget(Layer.Budget):
        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(*args, **kwargs)
            except BudgetError as error:
                raise type(error)("out of memory") from None


@mutant(
    "budget.driver-refusal-in-disguise",
    breaks="budget.three-refusals",
    because="instead of OutOfDeviceMemory",
)
class DriverRefusalInDisguise(Layer):
    """A driver without memory is reported as a budget that is used up."""

    class Device(Layer.Device):
        def staging_ring(self, **kwargs: Any) -> Any:
            try:
                return self.real.staging_ring(**kwargs)
            except OutOfDeviceMemory as error:
                raise BudgetExhausted(*error.args) from None
