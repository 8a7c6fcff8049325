"""Processes whose devices know nothing of each other's memory."""

from __future__ import annotations

import threading
from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core import global_tracker, register_buffer
from forge3d_core.errors import BudgetExhausted, OutOfDeviceMemory

_lifting = threading.RLock()


@mutant(
    "budget.devices-do-not-share",
    breaks="budget.process",
    because="nothing was raised where",
    requires=("driver",),
)
class DevicesDoNotShare(Layer):
    """Each device has a budget of its own, and two of them hold twice the limit of the process."""

    class Budget(Layer.Budget):
        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            tracker = global_tracker()
            with _lifting:
                limit = tracker.limit
                tracker.set_limit(1 << 62)
                try:
                    return self.real.reserve(*args, **kwargs)
                finally:
                    tracker.set_limit(limit)


@mutant(
    "budget.caches-of-others-are-kept",
    breaks="budget.process",
    because="BudgetExhausted.*do not fit",
    requires=("driver",),
)
class CachesOfOthersAreKept(Layer):
    """A device is refused what others only keep for later."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            if kwargs.get("heap") != "device_local" and not kwargs.get("timeout"):
                global_tracker().check_budget(nbytes)
            return self.real.reserve(nbytes, **kwargs)


@mutant(
    "budget.deaf-to-other-devices",
    breaks="budget.process",
    because="another device gives back did not",
    requires=("driver",),
)
class DeafToOtherDevices(Layer):
    """Who waits does not hear of what another device gives back."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: int, **kwargs: Any) -> Any:
            if kwargs.get("timeout") and not global_tracker().room(nbytes):
                threading.Event().wait()
            return self.real.reserve(nbytes, **kwargs)


@mutant(
    "budget.process-keeps-the-closed",
    breaks="budget.process",
    because="stay counted after",
    requires=("driver",),
)
class ProcessKeepsTheClosed(Layer):
    """What a device held stays counted for the process after it has closed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Device(Layer.Device):
        def close(self) -> None:
            layer: Any = self.layer
            if not self.target.closed:
                layer.kept.append(register_buffer(4096))
            self.target.close()


@mutant(
    "budget.check-of-one-device",
    breaks="budget.process",
    because="check.*nothing was raised",
    requires=("driver",),
)
class CheckOfOneDevice(Layer):
    """check knows of the device's own memory only."""

    class Budget(Layer.Budget):
        def check(self, nbytes: int, **kwargs: Any) -> None:
            try:
                self.target.check(nbytes, **kwargs)
            except BudgetExhausted as error:
                if "process" not in str(error):
                    raise


@mutant("budget.refusal-keeps-the-bytes", breaks="budget.every-refusal", because="the return of all memory")
class RefusalKeepsTheBytes(Layer):
    """What a ring's blocks took before one was refused stays charged."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Device(Layer.Device):
        def staging_ring(self, **kwargs: Any) -> Any:
            layer: Any = self.layer
            try:
                return self.real.staging_ring(**kwargs)
            except OutOfDeviceMemory:
                layer.kept.append(self.target.budget.reserve(4096))
                raise


@mutant("budget.refusal-under-another-name", breaks="budget.every-refusal", because="refused: RuntimeError")
class RefusalUnderAnotherName(Layer):
    """A driver without memory for a buffer is reported as an error of no particular kind."""

    class Device(Layer.Device):
        def create_buffer(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.create_buffer(*args, **kwargs)
            except OutOfDeviceMemory as error:
                raise RuntimeError(*error.args) from None


@mutant("budget.limit-lowered-is-not-seen", breaks="budget.storm", because="use rose above")
class LimitLoweredIsNotSeen(Layer):
    """A limit shows once it was lowered, and reservations go by the higher one before it."""

    class Budget(Layer.Budget):
        shown: int | None = None

        def set_limit(self, nbytes: Any) -> None:
            self.shown = nbytes

        def metrics(self) -> Any:
            seen = self.target.metrics()
            return seen if self.shown is None else attrs.evolve(seen, limit_bytes=self.shown)


@mutant("budget.given-back-a-byte-short", breaks="budget.storm", because="the figures are off")
class GivenBackAByteShort(Layer):
    """Each 50th reservation is given back a byte short."""

    def __init__(self) -> None:
        super().__init__()
        self.released = 0
        self.kept: list[Any] = []

    class Reservation(Layer.Reservation):
        def release(self) -> None:
            layer: Any = self.layer
            self.target.release()
            layer.released += 1
            if layer.released % 50 == 0:
                layer.kept += [layer.lasting("Budget")[0].target.reserve(1, heap="device_local")]
