"""Python calls per operation on the host driver: a measure that no machine blurs, as upper bounds.

The bounds are what was counted when they were last lowered. They may be lowered and never raised; where they
are to go is in ``docs/performance.md``.
"""

from __future__ import annotations

import sys
from types import FrameType

import pytest

import forge3d_core
from forge3d_conformance.speed.calls import CallCount, count_calls

BOUNDS = {
    "reserve + commit + advance + wait": 42,
    "upload of 4 KiB + wait": 48,
    "record + submit + wait, one dispatch": 24,
    "read + wait, 4 KiB": 62,
    "submit of an empty list + wait": 20,
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


def test_a_read_costs_the_same_however_many_are_pending() -> None:
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    with forge3d_core.open_device("host") as device:
        source = device.create_buffer(4096)
        with device.readback_pool(max_pending_ops=256, buffer_size=4096) as pool:
            for handle in [pool.read(source) for _ in range(256)]:  # the first use of each block
                handle.wait()
            counts, handles = [], []
            for _ in range(256):
                calls, before = 0, sys.getprofile()
                sys.setprofile(note)
                try:
                    handles.append(pool.read(source))
                finally:
                    sys.setprofile(before)
                counts.append(calls)
    assert max(counts) <= 1.1 * min(counts) + 16  # what the device has finished meanwhile is noted, too
