"""Several uploads in one call."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import landed, pattern
from forge3d_core.errors import OutOfRange, UsageError
from forge3d_core.protocols import BatchingRing, Device

BLOCK, ROOM = 1024, 5000


def _ring(device: Device, count: int = 3) -> BatchingRing:
    return cast(BatchingRing, device.staging_ring(ring_count=count, buffer_size=BLOCK))


@pytest.mark.clause("ring.batch")
def test_each_array_arrives_where_it_belongs(bench: Bench) -> None:
    """A later one writes over an earlier one. Some are larger than a block, and one than the ring."""
    device = bench.open()
    ring = _ring(device)
    targets = [device.create_buffer(ROOM) for _ in range(3)]
    wanted = [np.zeros(ROOM, np.uint8) for _ in targets]
    uploads: list[Any] = []
    for number, nbytes in enumerate((1, 100, 700, 64, 3, 1024, 500, 2000, 5, 4096, 333, 17)):
        data, which = pattern(number, nbytes), number % 3
        offset = 0 if number < 3 else number * 37 % (ROOM - nbytes)
        uploads.append((data, targets[which], offset) if number >= 3 else (data, targets[which]))
        wanted[which][offset : offset + nbytes] = data
    uploads.append((np.empty(0, np.float32), targets[0]))
    ring.upload_many([(np.zeros(ROOM, np.uint8), target) for target in targets], timeout=bench.patience)
    bench.wait(ring.upload_many(iter(uploads), timeout=bench.patience), "many uploads at once")
    for number, target in enumerate(targets):
        bench.same(landed(bench, device, target), wanted[number], f"upload_many: target {number}")


@pytest.mark.clause("ring.batch")
@pytest.mark.parametrize(("count", "nbytes"), [(1, 10), (16, 4), (12, 64), (3, 1000)])
def test_what_fits_is_one_submission(bench: Bench, count: int, nbytes: int) -> None:
    device = bench.open()
    ring = _ring(device)
    targets = [device.create_buffer(nbytes) for _ in range(count)]
    for round in range(4):
        before = ring.stats()
        data = [pattern(round * 50 + number, nbytes) for number in range(count)]
        point = ring.upload_many(list(zip(data, targets, strict=True)), timeout=bench.patience)
        bench.wait(point, f"{count} uploads of {nbytes} bytes")
        after = ring.stats()
        made = after.submissions - before.submissions
        bench.check(made == 1, f"{count} uploads of {nbytes} bytes were {made} submissions, where all fit")
        staged = after.bytes_staged - before.bytes_staged
        bench.check(staged == count * nbytes, f"{count} uploads of {nbytes} bytes staged {staged} bytes")
    for number, target in enumerate(targets):
        bench.same(landed(bench, device, target), data[number], f"upload {number} of {count}")


@pytest.mark.clause("ring.batch")
def test_no_uploads_submit_nothing(bench: Bench) -> None:
    device = bench.open()
    ring = _ring(device)
    bench.wait(ring.upload_many([]), "upload_many of nothing")
    made = ring.stats().submissions
    bench.check(made == 0, f"upload_many of nothing made {made} submissions")


@pytest.mark.clause("ring.batch")
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_call_that_is_refused_changes_nothing(bench: Bench, place: int) -> None:
    device = bench.open()
    ring = _ring(device)
    target, data = device.create_buffer(ROOM), pattern(1, ROOM)
    bench.wait(ring.upload(data, target, timeout=bench.patience))
    wrong: list[tuple[Any, type[Exception]]] = [
        ((pattern(2, 100), target, ROOM - 99), OutOfRange),
        ((pattern(2, 100), target, -1), OutOfRange),
        ((pattern(2, 100), target, 0.5), UsageError),
        ((np.array([object()]), target), UsageError),
        ((pattern(2, 100), pattern(2, 100)), UsageError),
        ((pattern(2, 100),), UsageError),
        (target, UsageError),
    ]
    for one, error in wrong:
        uploads: list[Any] = [(pattern(3 + number, 50), target, number * 60) for number in range(6)]
        uploads.insert(place, one)
        before = ring.stats()
        with bench.raises(error, f"upload_many, {error.__name__} in place {place}"):
            ring.upload_many(uploads, timeout=bench.patience)
        bench.wait(ring.advance(bench.patience))
        bench.check(
            ring.stats() == before,
            f"after upload_many was refused the figures are {ring.stats()}, not {before}",
        )
    bench.same(landed(bench, device, target), data, "after uploads that were refused, the target")
