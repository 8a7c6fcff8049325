"""Readback: many reads in one submission, each of them a read like any other."""

from __future__ import annotations

import gc
from typing import Any, Unpack, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, ended, stamp, stamped, take
from forge3d_core.errors import Busy, OutOfRange
from forge3d_core.protocols import BatchingPool, Device, PoolOptions, ReadRegion

SIZE = 3000


def _pool(device: Device, **config: Unpack[PoolOptions]) -> BatchingPool:
    return cast(BatchingPool, device.readback_pool(**config))


@pytest.mark.clause("readback.many")
@given(
    parts=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 700), st.integers(0, 600)), min_size=1, max_size=12
    )
)
def test_each_of_many_reads_gives_its_own_region(bench: Bench, parts: list[tuple[int, int, int]]) -> None:
    with bench.open() as device:
        sources = [device.create_buffer(SIZE) for _ in range(2)]
        contents = [np.arange(offset, offset + SIZE).astype(np.uint8) for offset in (1, 77)]
        with device.staging_ring() as ring:
            for source, content in zip(sources, contents, strict=True):
                bench.wait(ring.upload(content, source))
        with _pool(device, max_pending_ops=1, backpressure="raise", buffer_size=4096) as pool:
            for _ in range(2):
                handles = pool.read_many(
                    [(sources[which], {"offset": at, "nbytes": count}) for which, at, count in parts]
                )
                bench.check(len(handles) == len(parts), f"{len(handles)} handles of {len(parts)} reads")
                for (which, at, count), handle in reversed([*zip(parts, handles, strict=True)]):
                    seen = take(bench, handle, "one of many reads")
                    bench.same(seen, contents[which][at : at + count], "one of many reads")


@pytest.mark.clause("readback.many")
def test_dtypes_shapes_and_arrays_of_the_caller_are_each_reads_own(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [3], 4096)
    out = np.zeros(100, np.uint8)
    wanted: list[Any] = [
        source,
        (source, ReadRegion(dtype="f4", shape=(10, 4), offset=8)),
        (source, ReadRegion(nbytes=100, out=out)),
        (source, ReadRegion(nbytes=0)),
    ]
    with _pool(device, buffer_size=16384) as pool:
        arrays = [take(bench, handle, "one of many reads") for handle in pool.read_many(wanted)]
        shapes = [(array.dtype.str[1:], array.shape) for array in arrays]
        expected = [("u1", (4096,)), ("f4", (10, 4)), ("u1", (100,)), ("u1", (0,))]
        bench.check(shapes == expected, f"many reads gave {shapes}, wanted {expected}")
        bench.check(arrays[2] is out, "one of many reads did not return the array given as out")
        for array in arrays:
            bench.same(array.reshape(-1).view(np.uint8), all_of(3, array.nbytes), "one of many reads")
        bench.check(not pool.read_many([]), "no reads gave handles")


@pytest.mark.clause("readback.many", requires=("read_many", "hold"))
def test_many_reads_are_one_submission_and_have_one_block(bench: Bench) -> None:
    device = bench.open()
    sources = stamped(bench, device, [1, 2, 3, 4], 100)
    with _pool(device, max_pending_ops=1, backpressure="raise", buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handles = hold.promptly(pool.read_many, sources)
            for source in sources:
                stamp(device, source, 9)
            before = hold.observe(pool.stats)
            bench.check(before.pending_operations == 1, f"{before.pending_operations} blocks for one batch")
            bench.check(before.total_operations == 4, f"{before.total_operations} reads counted of 4")
            bench.check(len({handle.point for handle in handles}) == 1, "many reads were several submissions")
            with bench.raises(Busy, "many reads of a pool without a block"):
                hold.promptly(pool.read_many, sources)
            bench.check(hold.observe(pool.stats).total_operations == 4, "refused reads were counted")
        for value, handle in enumerate(handles, 1):
            bench.same(take(bench, handle), all_of(value, 100), "one of many reads, of before a later write")
        again = [take(bench, handle) for handle in pool.read_many(sources)]
        for array in again:
            bench.same(array, all_of(9, 100), "many reads after many")


@pytest.mark.clause("readback.many")
def test_all_start_or_none(bench: Bench) -> None:
    device = bench.open()
    (source,) = stamped(bench, device, [1], 100)
    with _pool(device, buffer_size=4096) as pool:
        before = pool.stats()
        with bench.raises(OutOfRange, "a region outside its buffer, among many"):
            pool.read_many([source, source, (source, {"offset": 90, "nbytes": 20})])
        bench.check(pool.stats() == before, f"many reads that were refused made {pool.stats()} of {before}")


@pytest.mark.clause("readback.many", requires=("read_many", "hold"))
def test_each_of_many_reads_ends_on_its_own(bench: Bench) -> None:
    device = bench.open()
    sources = stamped(bench, device, [1, 2, 3, 4, 5], 500)
    with _pool(device, max_pending_ops=1, backpressure="raise", buffer_size=4096) as pool:
        for _ in range(3):
            with bench.hold(device, "download") as hold:
                handles = list(hold.promptly(pool.read_many, sources))
                handles[0].cancel()
                handles[1] = handles[0]  # and the second is dropped
                gc.collect(0)
                how = ended(handles[0], bench.patience)
                bench.check(how == "Cancelled", f"one of many that was cancelled ended with {how}")
                hold.still()
            bench.same(take(bench, handles[4]), all_of(5, 500), "one of many after a cancel")
            lease = handles[2].lease(bench.patience)
            bench.same(take(bench, handles[3]), all_of(4, 500), "one of many beside a lease")
            with bench.raises(Busy, "a read while one of many is leased"):
                pool.read(sources[0])
            bench.same(lease.array, all_of(3, 500), "the lease of one of many")
            lease.release()
            del lease
            seen = take(bench, pool.read(sources[1]), "a read after the last of many was over")
            bench.same(seen, all_of(2, 500), "a read after the last of many was over")


@pytest.mark.clause("readback.many")
def test_coroutines_read_many_as_well(bench: Bench) -> None:
    device = bench.open()
    sources = stamped(bench, device, range(1, 9), 200)

    async def main() -> None:
        async with _pool(device, max_pending_ops=2, buffer_size=4096) as pool:
            for _ in range(4):
                for value, handle in enumerate(await pool.read_many_async(sources), 1):
                    bench.same(await handle, all_of(value, 200), "one of many reads, awaited")

    bench.run(main(), "many reads, awaited")
