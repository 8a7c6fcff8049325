"""Python calls per operation on the host driver: a measure that no machine blurs, as upper bounds.

The bounds are what was counted when they were last lowered. They may be lowered and never raised; where they
are to go is in ``docs/performance.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest

import forge3d_core
from forge3d_conformance.speed.calls import CallCount, count_calls
from forge3d_core import BatchingPool, BatchingRing, ReadbackHandle, ReadRequest

BOUNDS = {
    "reserve + commit + advance + wait": 42,
    "upload of 4 KiB + wait": 48,
    "record + submit + wait, one dispatch": 24,
    "read + wait, 4 KiB": 46,
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


def calls_of(call: Callable[[], object]) -> int:
    """Return how many functions the calling thread enters for one call."""
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return calls


def test_a_read_costs_the_same_however_many_are_pending() -> None:
    with forge3d_core.open_device("host") as device:
        source = device.create_buffer(4096)
        with device.readback_pool(max_pending_ops=256, buffer_size=4096) as pool:
            for handle in [pool.read(source) for _ in range(256)]:  # the first use of each block
                handle.wait()
            handles: list[ReadbackHandle] = []
            counts = [calls_of(lambda: handles.append(pool.read(source))) for _ in range(256)]
    # Now and then one notes what the device has finished meanwhile, for all those before it.
    assert sorted(counts)[-8] <= 1.1 * min(counts) + 16
    assert sum(counts) / len(counts) <= 1.1 * min(counts) + 16


SLICES = 10_000


def test_a_slice_costs_the_same_over_a_rings_life() -> None:
    """The first of 10^4 and the last, each of a block that the ring has had before."""
    with forge3d_core.open_device("host") as device:
        buffer = device.create_buffer(256)
        with device.staging_ring(buffer_size=4096) as ring:

            def stage() -> None:
                ring.reserve(256).commit(buffer)
                ring.advance()

            def least() -> int:
                return min(calls_of(stage) for _ in range(16) if device.wait_idle() is None)

            for _ in range(8):
                stage()
            first = least()
            for _ in range(SLICES):
                stage()
            assert least() <= 1.1 * first


def test_a_slice_costs_the_same_however_many_are_in_one_advance() -> None:
    """They are one submission, whose own calls do not grow with them."""
    with forge3d_core.open_device("host") as device:
        buffer = device.create_buffer(SLICES)
        with device.staging_ring(buffer_size=SLICES * device.limits.staging_alignment) as ring:
            costs = {}
            for slices in (1, 100, SLICES):

                def stage(slices: int = slices) -> None:
                    for place in range(slices):
                        ring.reserve(1).commit(buffer, place)

                staging, advancing = calls_of(stage), calls_of(ring.advance)
                costs[slices] = staging / slices, advancing
                device.wait_idle()
            each, submitting = zip(*costs.values(), strict=True)
            assert max(each[1:]) <= each[0], costs
            assert max(submitting) <= submitting[0] + 2, costs
            assert ring.stats().submissions == len(costs)


def test_a_slice_that_is_written_costs_a_few_calls_more(counts: dict[str, CallCount]) -> None:
    """Its memory is lent, looked after and taken back: in the common case, with one view in a variable."""
    with forge3d_core.open_device("host") as device:
        buffer = device.create_buffer(256)
        with device.staging_ring(buffer_size=4096) as ring:

            def stage() -> None:
                slot = ring.reserve(256)
                view = slot.view
                view[:] = 1
                slot.commit(buffer)
                ring.advance().wait()

            for _ in range(8):
                stage()
            more = min(calls_of(stage) for _ in range(8)) - counts["reserve + commit + advance + wait"].calls
            assert more <= 24


def test_many_uploads_at_once_cost_less_each() -> None:
    with forge3d_core.open_device("host") as device:
        buffer, data = device.create_buffer(64 * 256), np.ones(256, np.uint8)
        uploads = [(data, buffer, place * 256) for place in range(64)]
        with device.staging_ring() as ring:
            assert isinstance(ring, BatchingRing)
            for _ in range(8):
                ring.upload_many(uploads).wait()
            calls = min(calls_of(lambda: ring.upload_many(uploads)) for _ in range(8))
            assert calls <= 64 * 19


READS = 10_000


def test_a_read_costs_the_same_however_many_handles_live() -> None:
    """Handles of reads that have landed, and of those that a pool holds for as many: each step is O(1)."""
    with forge3d_core.open_device("host") as device:
        source = device.create_buffer(64)
        with device.readback_pool(max_pending_ops=4, buffer_size=64) as pool:
            handles: list[ReadbackHandle] = []

            def start() -> None:
                handles.append(pool.read(source))

            def least() -> int:
                return min(calls_of(start) for _ in range(16) if device.wait_idle() is None)

            for _ in range(100):
                start()
            first = least()
            while len(handles) < READS:
                start()
            assert least() <= 1.1 * first
            assert pool.stats().blocks == 4


def test_a_read_of_a_batch_costs_less() -> None:
    with forge3d_core.open_device("host") as device:
        source = device.create_buffer(64 * 64)
        wanted = [ReadRequest(source, 64 * place, 64) for place in range(64)]
        with device.readback_pool() as pool:
            assert isinstance(pool, BatchingPool)

            def batch() -> None:
                for handle in pool.read_many(wanted):
                    handle.wait()

            for _ in range(8):
                batch()
            assert min(calls_of(batch) for _ in range(8)) <= 64 * 20
