"""Budgets that give back twice, never, without a word, or with a peak that was none."""

from __future__ import annotations

import warnings
from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import OutOfDeviceMemory
from forge3d_core.protocols import BudgetMetrics


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


@mutant("budget.dropped-is-lost", breaks="budget.collected", because="return of what a dropped buffer took")
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


class SaysItsOwn(Layer):
    """A base of mutants: a device that closes with other words than its own, or none."""

    class Device(Layer.Device):
        def words(self, metrics: BudgetMetrics) -> str:
            return ""

        def close(self) -> None:
            words = self.words(self.target.budget.metrics())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.target.close()
            if words:
                warnings.warn(words, ResourceWarning, stacklevel=2)


@mutant("budget.leaks-go-unsaid", breaks="budget.collected", because=r"another leak or none: \[\]")
class LeaksGoUnsaid(SaysItsOwn):
    """A device closes without a word over reservations that nobody released."""


@mutant(
    "budget.leaks-are-not-named", breaks="budget.collected", because="another leak or none: .*closed in 2 ms"
)
class LeaksAreNotNamed(SaysItsOwn):
    """What a device says when it closes has nothing to do with what was left."""

    class Device(SaysItsOwn.Device):
        def words(self, metrics: BudgetMetrics) -> str:
            return "the device closed in 2 ms"


@mutant(
    "budget.all-that-is-held-is-a-leak", breaks="budget.collected", because="another leak or none: .*in use"
)
class AllThatIsHeldIsALeak(SaysItsOwn):
    """What the device made itself is reported among the leaks."""

    class Device(SaysItsOwn.Device):
        def words(self, metrics: BudgetMetrics) -> str:
            return f"{metrics.buffer_count} allocations of {metrics.total_bytes} bytes are still in use"


@mutant(
    "budget.driver-refusals-raise-the-peak",
    breaks="budget.peak",
    because="after the driver refused",
    requires=("host_pressure",),
)
class DriverRefusalsRaiseThePeak(Layer):
    """What the driver had no memory for stays in the peak; what the budget refuses does not."""

    class Device(Layer.Device):
        def staging_ring(self, **kwargs: Any) -> Any:
            try:
                return self.real.staging_ring(**kwargs)
            except OutOfDeviceMemory:
                for budget in self.layer.lasting("Budget"):
                    budget.refused = kwargs.get("buffer_size", 0)
                raise

    class Budget(Layer.Budget):
        refused = 0

        def metrics(self) -> BudgetMetrics:
            m: BudgetMetrics = self.target.metrics()
            return attrs.evolve(m, peak_bytes=max(m.peak_bytes, m.total_bytes + self.refused))
