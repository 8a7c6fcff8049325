"""Python calls per operation on the host driver: a measure that no machine blurs, as upper bounds.

The bounds are what was counted when they were last lowered. They may be lowered and never raised; where they
are to go is in ``docs/performance.md``.
"""

from __future__ import annotations

import pytest

import forge3d_core
from forge3d_conformance.speed.calls import CallCount, count_calls

BOUNDS = {
    "reserve + commit + advance + wait": 215,
    "upload of 4 KiB + wait": 260,
    "record + submit + wait, one dispatch": 165,
    "read + wait, 4 KiB": 215,
    "submit of an empty list + wait": 120,
}


@pytest.fixture(scope="module")
def counts() -> dict[str, CallCount]:
    with forge3d_core.open_device("host") as device:
        return {count.operation: count for count in count_calls(device)}


@pytest.mark.parametrize("operation", BOUNDS)
def test_an_operation_enters_no_more_functions(counts: dict[str, CallCount], operation: str) -> None:
    assert 0 < counts[operation].calls <= BOUNDS[operation]


def test_what_is_counted_is_what_is_bounded(counts: dict[str, CallCount]) -> None:
    assert counts.keys() == BOUNDS.keys()
