"""Budgets that miscount, overshoot, forget and starve."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import BudgetError, BudgetExceeded, BudgetExhausted, OutOfDeviceMemory
from forge3d_core.protocols import BudgetMetrics


@mutant("budget.stat-drifts", breaks="budget.exact", because="metrics drift: .*total_bytes")
class StatDrifts(Layer):
    """The total grows by a byte with every reservation and never shrinks."""

    class Budget(Layer.Budget):
        drift = 0

        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            reservation = self.real.reserve(*args, **kwargs)
            self.drift += 1
            return reservation

        def metrics(self) -> BudgetMetrics:
            metrics: BudgetMetrics = self.target.metrics()
            return attrs.evolve(metrics, total_bytes=metrics.total_bytes + self.drift)


@mutant("budget.zero-bytes-uncounted", breaks="budget.exact", because="metrics drift: .*buffer_count")
class ZeroBytesUncounted(Layer):
    """An empty reservation is not counted as one."""

    class Budget(Layer.Budget):
        empty = 0

        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            reservation = self.real.reserve(nbytes, **kwargs)
            self.empty += nbytes == 0 and kwargs.get("kind", "buffer") == "buffer"
            return reservation

        def metrics(self) -> BudgetMetrics:
            metrics: BudgetMetrics = self.target.metrics()
            return attrs.evolve(metrics, buffer_count=metrics.buffer_count - self.empty)


@mutant("budget.check-then-act", breaks="budget.hard-limit", because="were reserved under a limit")
class CheckThenAct(Layer):
    """Whether it fits is decided first and the bytes are taken later, without a lock between."""

    class Budget(Layer.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.limit = target.limit
            self.now = self.peak = 0
            target.set_limit(1 << 60)

        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            if self.now + nbytes > self.limit:
                raise BudgetExhausted(f"{nbytes} bytes do not fit: {self.now} of {self.limit} are used")
            time.sleep(0.0005)  # where another thread gets in
            self.now += nbytes
            self.peak = max(self.peak, self.now)
            return self.layer.wrap("Reservation", self.target.reserve(nbytes, **kwargs))

        def give(self, nbytes: int) -> None:
            self.now -= nbytes

        def metrics(self) -> BudgetMetrics:
            metrics: BudgetMetrics = self.target.metrics()
            return attrs.evolve(
                metrics,
                host_visible_bytes=self.now,
                peak_host_visible_bytes=self.peak,
                limit_bytes=self.limit,
            )

    class Reservation(Layer.Reservation):
        def __exit__(self, *exc_info: object) -> None:
            self.target.release()
            for budget in self.layer.lasting("Budget"):
                budget.give(self.target.nbytes)


@mutant("budget.another-default", breaks="budget.hard-limit", because="unconfigured device has a limit")
class AnotherDefault(Layer):
    """The limit is 256 MiB unless configured."""

    class Budget(Layer.Budget):
        @property
        def limit(self) -> int:
            limit: int = self.target.limit
            return limit // 2 if limit == 512 * 1024**2 else limit


@mutant(
    "budget.refusal-leaks",
    breaks="budget.clean-refusal",
    because="after the refusal of .* bytes are reserved",
)
class RefusalLeaks(Layer):
    """A refused reservation keeps a few of the bytes it did not get."""

    class Budget(Layer.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.leaked: list[Any] = []

        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(nbytes, **kwargs)
            except BudgetError:
                self.leaked.append(self.target.reserve(8))
                raise


@mutant("budget.half-a-ring-stays", breaks="budget.clean-refusal", because="refusal of a ring")
class HalfARingStays(Layer):
    """A ring that does not fit keeps the blocks it got before it was refused."""

    class Device(Layer.Device):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.kept: list[Any] = []

        def staging_ring(self, **kwargs: Any) -> Any:
            try:
                return self.real.staging_ring(**kwargs)
            except BudgetError:
                try:
                    self.kept.append(self.target.budget.reserve(kwargs.get("buffer_size", 0)))
                except BudgetError:
                    self.kept.append(self.target.budget.reserve(1))
                raise


@mutant("budget.check-takes", breaks="budget.check", because="changed the metrics")
class CheckTakes(Layer):
    """check asks by reserving and giving back, and is counted."""

    class Budget(Layer.Budget):
        def check(self, nbytes: int, **kwargs: Any) -> None:
            self.target.reserve(nbytes, **kwargs).release()


@mutant(
    "budget.check-off-by-one", breaks="budget.check", because="says yes and reserve does|and reserve does yes"
)
class CheckOffByOne(Layer):
    """check refuses what would fill the budget exactly."""

    class Budget(Layer.Budget):
        def check(self, nbytes: int, **kwargs: Any) -> None:
            self.target.check(nbytes + (nbytes > 0), **kwargs)


@mutant("budget.kinds-mixed", breaks="budget.kinds", because="making .* moved")
class KindsMixed(Layer):
    """Textures are counted as buffers."""

    class Budget(Layer.Budget):
        def metrics(self) -> BudgetMetrics:
            m: BudgetMetrics = self.target.metrics()
            return attrs.evolve(
                m,
                buffer_count=m.buffer_count + m.texture_count,
                buffer_bytes=m.buffer_bytes + m.texture_bytes,
                texture_count=0,
                texture_bytes=0,
            )


@mutant("budget.device-local-is-host-visible", breaks="budget.kinds", because="making .* moved")
class DeviceLocalIsHostVisible(Layer):
    """Every byte counts against the host-visible limit."""

    class Budget(Layer.Budget):
        def metrics(self) -> BudgetMetrics:
            m: BudgetMetrics = self.target.metrics()
            return attrs.evolve(m, host_visible_bytes=m.total_bytes, device_local_bytes=0)


@mutant("budget.staging-uncounted", breaks="budget.kinds", because="making .* moved")
class StagingUncounted(Layer):
    """The blocks of rings and pools are not counted; only what the caller reserves is."""

    class Budget(Layer.Budget):
        counted = 0

        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            reservation = self.real.reserve(nbytes, **kwargs)
            self.counted += kwargs.get("heap") == "host_visible"
            return reservation

        def metrics(self) -> BudgetMetrics:
            m: BudgetMetrics = self.target.metrics()
            if self.counted:
                return m
            return attrs.evolve(m, host_visible_bytes=0, total_bytes=m.device_local_bytes)


@mutant("budget.peak-is-now", breaks="budget.peak", because="peaks are")
class PeakIsNow(Layer):
    """The peak falls with use."""

    class Budget(Layer.Budget):
        def metrics(self) -> BudgetMetrics:
            m: BudgetMetrics = self.target.metrics()
            return attrs.evolve(m, peak_bytes=m.total_bytes, peak_host_visible_bytes=m.host_visible_bytes)


@mutant("budget.refusals-raise-the-peak", breaks="budget.peak", because="peaks are")
class RefusalsRaiseThePeak(Layer):
    """The peak counts what was asked for, granted or not."""

    class Budget(Layer.Budget):
        asked = 0

        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(nbytes, **kwargs)
            except BudgetError:
                self.asked = max(self.asked, self.target.metrics().host_visible_bytes + nbytes)
                raise

        def metrics(self) -> BudgetMetrics:
            m: BudgetMetrics = self.target.metrics()
            return attrs.evolve(m, peak_host_visible_bytes=max(m.peak_host_visible_bytes, self.asked))


@mutant(
    "budget.release-counts-twice",
    breaks="budget.release-once",
    because="releasing twice gave back|left .* bytes",
)
class ReleaseCountsTwice(Layer):
    """Each release gives the bytes back, the second one somebody else's."""

    class Reservation(Layer.Reservation):
        released_before = False

        def release(self) -> None:
            if self.released_before:
                for budget in self.layer.lasting("Budget"):
                    budget.stolen += self.target.nbytes
            self.released_before = True
            self.target.release()

    class Budget(Layer.Budget):
        stolen = 0

        def metrics(self) -> BudgetMetrics:
            m: BudgetMetrics = self.target.metrics()
            return attrs.evolve(
                m,
                host_visible_bytes=m.host_visible_bytes - self.stolen,
                total_bytes=m.total_bytes - self.stolen,
                buffer_bytes=m.buffer_bytes - self.stolen,
            )


@mutant("budget.dropped-is-lost", breaks="budget.collected", because="a dropped buffer keeps")
class DroppedIsLost(Layer):
    """What is dropped without close is never given back."""

    class Device(Layer.Device):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.immortal: list[Any] = []

        def create_buffer(self, *args: Any, **kwargs: Any) -> Any:
            buffer = self.real.create_buffer(*args, **kwargs)
            self.immortal.append(buffer)
            return buffer


@mutant("budget.leaks-go-unsaid", breaks="budget.collected", because="reported no leak")
class LeaksGoUnsaid(Layer):
    """A device closes without a word over reservations that nobody released."""

    class Device(Layer.Device):
        def close(self) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.target.close()


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
            self.lock = threading.Lock()

        def add_reclaimer(self, reclaim: Callable[[int], int]) -> Any:
            def locked(nbytes: int) -> int:
                with self.lock:
                    return reclaim(nbytes)

            return self.target.add_reclaimer(locked)

        def metrics(self) -> Any:
            with self.lock:
                return self.target.metrics()


@mutant("budget.reclaim-wants-one-byte", breaks="budget.reclaim-first", because="BudgetExhausted|asked for")
class ReclaimWantsOneByte(Layer):
    """Reclaimers are asked for a byte at a time."""

    class Budget(Layer.Budget):
        def add_reclaimer(self, reclaim: Callable[[int], int]) -> Any:
            return self.target.add_reclaimer(lambda nbytes: reclaim(1) if nbytes > 0 else 0)


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
