"""How long a call may wait: one rule for every kind of number."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from forge3d_core import AsyncReadbackConfig, DeviceOptions, UsageError
from forge3d_core.deadline import LONGEST, NEVER, Deadline, seconds

REFUSED = [math.nan, np.float32("nan"), Decimal("sNaN"), "1", b"1", True, np.True_, 1j, [1], timedelta(1)]


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_is_no_number_of_seconds_is_refused(value: Any) -> None:
    for call in (
        lambda: seconds(value),
        lambda: Deadline.after(value),
        lambda: AsyncReadbackConfig(timeout=value),
        lambda: DeviceOptions(drain_timeout=value),
    ):
        with pytest.raises(UsageError, match="a number of seconds, not"):
            call()


@pytest.mark.parametrize("value", [math.inf, 1e300, 10**400, np.float64("inf"), Decimal("1e400"), 2**70])
def test_what_is_too_far_away_is_never(value: Any) -> None:
    deadline = Deadline.after(value)
    assert deadline.left() == LONGEST
    assert deadline.left(0.05) == 0.05
    assert deadline.timeout is None or deadline.timeout == LONGEST


@pytest.mark.parametrize("value", [-1, -math.inf, -(10**400), np.float32(-0.5), 0, 0.0])
def test_a_negative_number_is_zero(value: Any) -> None:
    deadline = Deadline.after(value)
    assert deadline.left() == 0.0
    assert deadline.timeout == 0.0


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int8(2), Fraction(2), Decimal(2)])
def test_every_kind_of_number_counts(value: Any) -> None:
    assert 1.0 < Deadline.after(value).left() <= 2.0


def test_without_a_timeout_there_is_no_deadline() -> None:
    assert Deadline.after(None) is NEVER
    assert NEVER.timeout is None
    assert NEVER.left() == LONGEST


def test_options_are_kept_as_floats() -> None:
    assert DeviceOptions(drain_timeout=np.float32(0.5)).drain_timeout == 0.5
    assert AsyncReadbackConfig(timeout=None).timeout is None
    with pytest.raises(UsageError, match="from 0 up"):
        DeviceOptions(drain_timeout=-1)
