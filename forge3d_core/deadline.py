"""Deadlines: how long a call may wait, decided once where the call comes in."""

from __future__ import annotations

import math
import threading
import time
from decimal import Decimal
from numbers import Real
from typing import cast

import attrs

from forge3d_core.errors import UsageError

LONGEST = threading.TIMEOUT_MAX
"""Seconds that one wait of the operating system can last at most; some centuries."""


def seconds(value: object, what: str = "timeout") -> float:
    """Return ``value`` as a number of seconds: infinity where it is more than a float holds.

    Takes any real number, numpy's too. Raises :class:`UsageError` for nan, a bool and what is no number;
    ``what`` names it in the message.
    """
    if type(value) is float or (not isinstance(value, bool) and isinstance(value, (int, Real, Decimal))):
        try:
            number = float(value)
        except OverflowError:  # an int of 400 digits
            number = math.inf if cast(int, value) > 0 else -math.inf
        except ValueError:  # a signalling nan
            number = math.nan
        if not math.isnan(number):
            return number
    raise UsageError(f"{what} is a number of seconds, not {value!r}")


@attrs.frozen
class Deadline:
    """The moment ``at`` (of the monotonic clock, in seconds) at which a wait ends; infinity for never."""

    at: float

    @classmethod
    def after(cls, timeout: float | None) -> Deadline:
        """Return the deadline ``timeout`` seconds from now.

        None, infinity and what is too far away stand for never; a negative number is 0. Raises
        :class:`UsageError` for what is no number of seconds; see :func:`seconds`.
        """
        if timeout is None:
            return NEVER
        return cls(time.monotonic() + max(0.0, seconds(timeout)))

    def left(self, most: float = LONGEST) -> float:
        """Return the seconds until then, from 0 to ``most``."""
        return max(0.0, min(self.at - time.monotonic(), most))

    @property
    def timeout(self) -> float | None:
        """What to hand to a call that takes a timeout: the seconds that are left, None for ever."""
        return None if self.at == math.inf else self.left()


NEVER = Deadline(math.inf)
"""The deadline of a call without a timeout."""
