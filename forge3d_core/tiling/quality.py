"""What to make of the memory that is left: the best quality that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from forge3d_core.arguments import function
from forge3d_core.errors import BudgetExhausted, UsageError
from forge3d_core.protocols import DetailedBudget, Device
from forge3d_core.units import format_bytes

T = TypeVar("T")


def available_bytes(device: Device) -> int:
    """Return the host-visible bytes that the device's budget, and the process, have left now.

    Other threads may take them meanwhile: it is for choosing, and the allocation itself has the last word.
    """
    budget = device.budget
    if isinstance(budget, DetailedBudget):
        return budget.available_bytes()
    metrics = budget.metrics()
    return max(0, metrics.limit_bytes - metrics.host_visible_bytes)


def choose_quality(levels: Iterable[T], bytes_of: Callable[[T], int], available: int) -> T:
    """Return the first of ``levels``, best first, that takes at most ``available`` bytes.

    ``bytes_of`` says how many a level takes. Raises :class:`BudgetExhausted` where not even the last fits.
    Source: the memory management guide, ``adaptive_quality_rendering``.
    """
    function("bytes_of", bytes_of)
    needed = 0
    some = False
    for level in levels:
        some = True
        needed = bytes_of(level)
        if needed <= available:
            return level
    if not some:
        raise UsageError("there is no quality to choose from; give at least one level")
    raise BudgetExhausted(
        f"the lowest quality takes {format_bytes(needed)}, and {format_bytes(max(0, available))} are left; "
        "give a lower one, raise the budget, or close what is not needed"
    )
