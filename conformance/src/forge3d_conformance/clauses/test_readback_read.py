"""Readback: when a read returns, which bytes it takes, and when it is there."""

from __future__ import annotations

from typing import Any

import pytest
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, stamp, stamped, take
from forge3d_core.errors import FenceTimeout
from forge3d_core.protocols import ReadbackHandle

READS = 128
"""So many that a read which waits only now and then is all but certain to be among them."""


def complete(handle: ReadbackHandle) -> bool:
    return handle.is_complete


@pytest.mark.clause("readback.nonblocking")
@pytest.mark.parametrize("held", ["download", "compute"])
def test_reads_and_looks_return_while_work_is_outstanding(bench: Bench, held: str) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2, 3, 4])
    with device.readback_pool(max_pending_ops=READS, buffer_size=1024) as pool:
        with bench.hold(device, held) as hold:
            for value, buffer in enumerate(buffers, 11):
                stamp(device, buffer, value)

            def start() -> list[ReadbackHandle]:
                return [pool.read(buffers[index % 4]) for index in range(READS)]

            handles = hold.promptly(start)

            def look() -> list[Any]:
                return [look for _ in range(2) for h in handles for look in (h.is_complete, h.try_get())]

            answers = hold.promptly(look)
            bench.check(
                not any(answer is not None and answer is not False for answer in answers),
                "a look at a read of held work found bytes",
            )
        for index, handle in enumerate(handles):
            what = "a read that was started on a held device"
            bench.same(take(bench, handle, what), all_of(11 + index % 4), what)


@pytest.mark.clause("readback.nonblocking")
def test_a_pool_that_has_to_grow_does_not_wait_either(bench: Bench) -> None:
    device = bench.open()
    small, large = device.create_buffer(100), device.create_buffer(100_000)
    with device.readback_pool(max_pending_ops=3, buffer_size=4096) as pool:
        bench.same(take(bench, pool.read(small)), all_of(0, 100), "a read of fresh memory")
        with bench.hold(device, "download") as hold:
            stamp(device, large, 7)
            handles = hold.promptly(lambda: [pool.read(small), pool.read(large), pool.read(large)])
        for handle in handles[1:]:
            bench.same(take(bench, handle), all_of(7, 100_000), "a read larger than the pool's blocks")


@pytest.mark.clause("readback.snapshot")
@pytest.mark.parametrize("held", ["compute", "download"])
def test_the_bytes_are_those_of_the_submission(bench: Bench, held: str) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1])
    with device.readback_pool(max_pending_ops=4, buffer_size=4096) as pool:
        with bench.hold(device, held) as hold:
            handles = []
            for value, lane in enumerate(("compute", "upload", "download"), 2):
                stamp(device, buffer, value, lane)
                handles.append((value, pool.read(buffer)))
            stamp(device, buffer, 99, "upload")
            hold.still()
        bench.wait(stamp(device, buffer, 100, "compute"))
        for value, handle in handles:
            bench.same(
                take(bench, handle), all_of(value), f"a read between the writes {value} and {value + 1}"
            )


@pytest.mark.clause("readback.snapshot")
def test_a_source_closed_meanwhile_is_still_read(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [5])
    with device.readback_pool(buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            handle = pool.read(buffer)
            buffer.close()
            later = [device.create_buffer(1000) for _ in range(4)]
            for other in later:
                stamp(device, other, 6)
            hold.still()
        bench.same(take(bench, handle), all_of(5), "a read whose source was closed while it was in flight")


@pytest.mark.clause("readback.snapshot", requires=())
def test_a_kernel_before_the_read_counts_and_one_after_does_not(bench: Bench) -> None:
    device = bench.open()
    buffer = device.create_buffer(4096)
    kernel = device.create_kernel(bench.kernel("increment"))
    with device.readback_pool(max_pending_ops=3, buffer_size=4096) as pool:
        handles = []
        for _ in range(12):
            device.submit(device.command_list().dispatch(kernel, [buffer], [1, 1024], threads=1024))
            handles.append(pool.read(buffer, dtype="<u4"))
        for count, handle in enumerate(handles, 1):
            words: NDArray[Any] = take(bench, handle)
            bench.check(
                (words == count).all(),
                f"a read after {count} increments shows {sorted(set(words.tolist()))[:4]}",
            )


@pytest.mark.clause("readback.not-early")
def test_nothing_is_there_while_the_device_holds_the_copy(bench: Bench) -> None:
    device = bench.open()
    buffers = stamped(bench, device, [1, 2])
    with device.readback_pool(max_pending_ops=2, buffer_size=4096) as pool:
        with bench.hold(device, "download") as hold:
            for value, buffer in enumerate(buffers, 11):
                stamp(device, buffer, value)
            handles = [pool.read(buffer) for buffer in buffers]
            for handle in handles:
                bench.check(not hold.observe(complete, handle), "a held read says complete")
                bench.check(hold.observe(handle.try_get) is None, "try_get of a held read gave bytes")
                bench.check(not hold.observe(lambda h=handle: h.point.done), "a held read's point says done")
                with bench.raises(FenceTimeout, "wait(0.01) for a held read"):
                    hold.promptly(handle.wait, 0.01)
                with bench.raises(FenceTimeout, "lease(0.01) of a held read"):
                    hold.promptly(handle.lease, 0.01)
                bench.check(
                    hold.observe(handle.try_get) is None, "try_get of a held read gave bytes after a wait"
                )
        for value, handle in enumerate(handles, 11):
            bench.wait(handle.point, "a read's point")
            bench.check(handle.is_complete, "a read whose point is done does not say complete")
            seen = handle.try_get()
            bench.check(seen is not None, "try_get of a complete read gave None")
            assert seen is not None
            bench.same(seen, all_of(value), "try_get of a complete read")
            bench.same(take(bench, handle), all_of(value), "wait for a complete read")


@pytest.mark.clause("readback.not-early")
def test_completion_shows_by_looking_alone(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [3])
    with device.readback_pool(buffer_size=4096) as pool:
        with bench.hold(device, "download", 0.2) as hold:
            looked, tried = pool.read(buffer), pool.read(buffer)
            bench.check(not hold.observe(complete, looked), "a held read says complete")
        bench.until(lambda: looked.is_complete, "is_complete of a read that was let go")
        bench.until(lambda: tried.try_get() is not None, "try_get of a read that was let go")
        bench.same(looked.wait(0), all_of(3), "wait(0) for a read that says complete")


@pytest.mark.clause("readback.not-early", requires=("hold", "concurrent_lanes"))
def test_a_read_waits_for_the_points_it_comes_after(bench: Bench) -> None:
    device = bench.open()
    buffer, other = stamped(bench, device, [1, 2])
    with device.readback_pool(buffer_size=4096) as pool:
        with bench.hold(device, "compute") as hold:
            point = stamp(device, other, 3)
            handle = hold.promptly(lambda: pool.read(buffer, after=[point]))
            with bench.raises(FenceTimeout, "a wait for a read after a held point"):
                hold.observe(handle.wait, 0.05)
            bench.check(not hold.observe(complete, handle), "a read after a held point says complete")
        bench.same(take(bench, handle), all_of(1), "a read after another lane's point")
        bench.check(point.done, "a read after a point was complete before that point")
