from __future__ import annotations

import pytest

from forge3d_core.errors import BudgetExhausted, UsageError
from forge3d_core.protocols import Device
from forge3d_core.tiling import available_bytes, choose_quality

LEVELS = ["high", "medium", "low"]
BYTES = {"high": 200, "medium": 50, "low": 20}


@pytest.mark.parametrize(
    ("available", "chosen"), [(1000, "high"), (200, "high"), (199, "medium"), (20, "low")]
)
def test_the_best_that_fits(available: int, chosen: str) -> None:
    assert choose_quality(LEVELS, BYTES.__getitem__, available) == chosen


def test_where_nothing_fits() -> None:
    with pytest.raises(BudgetExhausted, match="20 B, and 19 B are left"):
        choose_quality(LEVELS, BYTES.__getitem__, 19)
    with pytest.raises(UsageError):
        choose_quality([], BYTES.__getitem__, 19)


def test_what_is_left(any_device: Device) -> None:
    before = available_bytes(any_device)
    with any_device.budget.reserve(1000):
        assert available_bytes(any_device) == before - 1000
