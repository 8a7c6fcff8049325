"""Calls that take a timeout at its word."""

from __future__ import annotations

import math
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


def is_nan(timeout: Any) -> bool:
    return not isinstance(timeout, str) and timeout is not None and timeout != timeout


@mutant("fence.nan-waits-for-ever", breaks="fence.timeout", because="Tardy: a wait with a timeout of nan")
class NanWaitsForEver(Layer):
    """No time is later than nan: a wait with that timeout never ends."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            self.target.wait(None if is_nan(timeout) else timeout)


@mutant("fence.huge-is-too-much", breaks="fence.timeout", because="OverflowError")
class HugeIsTooMuch(Layer):
    """A timeout that the clock cannot count to raises."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            if isinstance(timeout, int | float) and 1e300 <= timeout < math.inf:
                raise OverflowError("timestamp too large to convert to C PyTime_t")
            self.target.wait(timeout)


@mutant(
    "ring.negative-waits-for-ever",
    breaks="ring.reserve-waits",
    because="Tardy: reserve with a timeout of -1",
)
class NegativeWaitsForEver(Layer):
    """A negative timeout means for ever, as in some C APIs."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: Any = None) -> Any:
            below = isinstance(timeout, int | float) and timeout < 0
            return self.real.reserve(nbytes, None if below else timeout)


@mutant(
    "readback.timeout-is-text",
    breaks="readback.not-early",
    because="FenceTimeout.*instead of UsageError",
)
class TimeoutIsText(Layer):
    """A timeout may be anything that float() takes."""

    class Handle(Layer.Handle):
        def wait(self, timeout: Any = None) -> Any:
            return self.target.wait(float(timeout) if isinstance(timeout, str) else timeout)


@mutant("readback.pool-takes-nan", breaks="readback.backpressure", because="nothing was raised")
class PoolTakesNan(Layer):
    """A pool is made with a timeout of nan."""

    class Device(Layer.Device):
        def readback_pool(self, *args: Any, **changes: Any) -> Any:
            if is_nan(changes.get("timeout")):
                del changes["timeout"]
            return self.real.readback_pool(*args, **changes)


@mutant("budget.true-is-a-second", breaks="budget.waits", because="BudgetExhausted.*instead of UsageError")
class TrueIsASecond(Layer):
    """A reservation with timeout=True waits for a second."""

    class Budget(Layer.Budget):
        def reserve(self, nbytes: Any, **options: Any) -> Any:
            if options.get("timeout") is True:
                options["timeout"] = 0.1
            return self.real.reserve(nbytes, **options)
