"""How long a call may wait."""

from __future__ import annotations

import math
import time
from numbers import Real
from typing import Any

from forge3d_core.errors import UsageError

LONGEST = 1e6
"""Seconds in one go; whoever waits longer looks again."""


class Deadline:
    def __init__(self, timeout: Any) -> None:
        self.end = math.inf
        if timeout is None:
            return
        number = math.nan
        if isinstance(timeout, Real) and not isinstance(timeout, bool):
            try:
                number = float(timeout)
            except OverflowError:
                number = math.inf
        if math.isnan(number):
            raise UsageError(f"a timeout is a number of seconds, not {timeout!r}")
        self.end = time.monotonic() + max(0.0, number)

    def left(self, most: float = LONGEST) -> float:
        return max(0.0, min(most, self.end - time.monotonic()))

    @property
    def timeout(self) -> float | None:
        return None if self.end == math.inf else self.left()
