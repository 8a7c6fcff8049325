"""Budgets that miscount, overshoot, and keep what they refused."""

from __future__ import annotations

import threading
import time
from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import BudgetError, BudgetExhausted, OutOfDeviceMemory, TooLarge
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


@mutant("budget.torn-snapshot", breaks="budget.exact", because="a snapshot is torn")
class TornSnapshot(Layer):
    """The total and the heaps are of another moment than the rest of a snapshot."""

    class Budget(Layer.Budget):
        def metrics(self) -> BudgetMetrics:
            earlier: BudgetMetrics = self.target.metrics()
            threading.Event().wait(0.0001)  # while the lock is free for whoever wants it
            later: BudgetMetrics = self.target.metrics()
            return attrs.evolve(
                earlier,
                total_bytes=later.total_bytes,
                host_visible_bytes=later.host_visible_bytes,
                device_local_bytes=later.device_local_bytes,
            )


class OwnBooks(Layer):
    """A base of mutants: a budget that keeps books of its own, and allows what they say."""

    class Budget(Layer.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.limit = target.limit
            self.now = self.peak = 0
            target.set_limit(1 << 60)
            self.lock = threading.RLock()

        def look(self, nbytes: int) -> None:
            if self.now + nbytes > self.limit:
                raise BudgetExhausted(f"{nbytes} bytes do not fit: {self.now} of {self.limit} are used")

        def take(self, nbytes: int, **kwargs: Any) -> Any:
            reservation = self.target.reserve(nbytes, **kwargs)
            with self.lock:
                self.now += nbytes
                self.peak = max(self.peak, self.now)
            return self.layer.wrap("Reservation", reservation)

        def give(self, nbytes: int) -> None:
            with self.lock:
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


@mutant("budget.check-then-act", breaks="budget.hard-limit", because="were reserved under a limit")
class CheckThenAct(OwnBooks):
    """Whether it fits is decided first and the bytes are taken later, without a lock between."""

    class Budget(OwnBooks.Budget):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.between = 0
            self.met = threading.Event()

        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            self.look(nbytes)
            self.between += 1  # until two threads have once been here together
            if self.between > 1:
                self.met.set()
            self.met.wait(0.05)
            self.between -= 1
            return self.take(nbytes, **kwargs)


@mutant("budget.no-lock", breaks="budget.hard-limit", because="were reserved under a limit")
class NoLock(OwnBooks):
    """Whoever looks takes right away, only without a lock over both."""

    class Budget(OwnBooks.Budget):
        def reserve(self, nbytes: int, *, timeout: float | None = 0.0, **kwargs: Any) -> Any:
            self.look(nbytes)
            return self.take(nbytes, **kwargs)


@mutant("budget.waiters-look-then-take", breaks="budget.hard-limit", because="were reserved under a limit")
class WaitersLookThenTake(OwnBooks):
    """Who waits looks and takes later, each under the lock; who does not wait does both under it at once."""

    class Budget(OwnBooks.Budget):
        def reserve(self, nbytes: int, *, timeout: float | None = 0.0, **kwargs: Any) -> Any:
            if timeout == 0:
                with self.lock:
                    self.look(nbytes)
                    return self.take(nbytes, **kwargs)
            end = float("inf") if timeout is None else time.monotonic() + timeout
            pause = threading.Event()
            while True:
                try:
                    with self.lock:
                        self.look(nbytes)
                    break
                except BudgetExhausted:
                    if time.monotonic() >= end:
                        raise
                pause.wait(0.0002)
            pause.wait(0.0002)
            return self.take(nbytes, **kwargs)


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


class Hoarder(Layer):
    """A device that can keep reservations which nobody asked for."""

    class Device(Layer.Device):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.kept: list[Any] = []

        def keep(self, nbytes: int, **kwargs: Any) -> None:
            self.kept.append(self.target.budget.reserve(nbytes, **kwargs))


@mutant("budget.half-a-ring-stays", breaks="budget.clean-refusal", because="refusal of a ring")
class HalfARingStays(Hoarder):
    """A ring that does not fit keeps the blocks it got before it was refused."""

    class Device(Hoarder.Device):
        def staging_ring(self, **kwargs: Any) -> Any:
            try:
                return self.real.staging_ring(**kwargs)
            except BudgetError:
                try:
                    self.keep(kwargs.get("buffer_size", 0))
                except BudgetError:
                    self.keep(1)
                raise


@mutant("budget.refused-buffer-stays", breaks="budget.clean-refusal", because="refusal of a buffer")
class RefusedBufferStays(Hoarder):
    """A buffer is charged before anybody looks whether it can be had, and stays so."""

    class Device(Hoarder.Device):
        def create_buffer(self, nbytes: Any, *, label: str = "") -> Any:
            try:
                return self.real.create_buffer(nbytes, label=label)
            except (TooLarge, OutOfDeviceMemory):
                self.keep(nbytes, heap="device_local")
                raise


@mutant(
    "budget.driver-refusal-stays",
    breaks="budget.clean-refusal",
    because="refusal of .* by the driver",
    requires=("host_pressure",),
)
class DriverRefusalStays(Hoarder):
    """A ring for which the driver has no memory stays counted; one that the budget refuses does not."""

    class Device(Hoarder.Device):
        def staging_ring(self, **kwargs: Any) -> Any:
            try:
                return self.real.staging_ring(**kwargs)
            except OutOfDeviceMemory:
                self.keep(1)
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
