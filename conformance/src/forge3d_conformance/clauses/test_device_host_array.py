"""Arrays in the device's host-visible memory."""

from __future__ import annotations

import gc
import warnings
from typing import cast

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import landed, pattern
from forge3d_core.protocols import Device, HostArrayDevice

SHAPES = (((1,), "u1"), ((3, 5), "f4"), ((700, 513), "u2"), ((3_000_001,), "u1"))


def _open(bench: Bench) -> tuple[Device, HostArrayDevice]:
    """Return the device, and the same as one that has host arrays."""
    device = bench.open()
    return device, cast(HostArrayDevice, device)


@pytest.mark.clause("device.host-array")
@pytest.mark.parametrize(("shape", "dtype"), SHAPES)
def test_it_is_zeroed_and_budgeted_until_it_is_gone(bench: Bench, shape: tuple[int, ...], dtype: str) -> None:
    device, arrays = _open(bench)
    for _ in range(2):  # the second time perhaps in memory of the first
        before = device.budget.metrics().host_visible_bytes
        array = arrays.host_array(shape, dtype)
        made = (array.shape, array.dtype.str[1:], array.flags.writeable, array.flags.c_contiguous)
        bench.check(made == (shape, dtype, True, True), f"host_array({shape}, {dtype}) is {made}")
        bench.check(not array.any(), "a host array is not zero at first")
        held = device.budget.metrics().host_visible_bytes - before
        bench.check(
            held >= array.nbytes, f"{array.nbytes} bytes of a host array count as {held} in the budget"
        )
        array[...] = 7
        part = array[-1:]
        del array
        held = device.budget.metrics().host_visible_bytes - before
        bench.check(held >= part.nbytes, "a host array left the budget while a part of it was alive")
        bench.check(bool((part == 7).all()), "a part of a host array lost its values")
        del part
        gc.collect()
        held = device.budget.metrics().host_visible_bytes - before
        bench.check(held == 0, f"a host array that is gone still counts as {held} bytes in the budget")


@pytest.mark.clause("device.host-array")
@pytest.mark.parametrize("nbytes", [1, 1000, 300_000, 3_000_003])
def test_uploads_bring_its_bytes(bench: Bench, nbytes: int) -> None:
    """The array is dropped at once: the memory has to stay until the device is done."""
    device, arrays = _open(bench)
    target = device.create_buffer(nbytes + 16)
    for start in (0, nbytes // 3):
        data, wanted = pattern(start + 1, nbytes), np.zeros(nbytes + 16, np.uint8)
        array = arrays.host_array(nbytes, "u1")
        array[:] = data
        with device.staging_ring() as ring:
            bench.wait(ring.upload(np.zeros(nbytes + 16, np.uint8), target), "an upload")
            point = ring.upload(array[start:], target, 3)
            del array
            arrays.host_array(nbytes, "u1")[:] = 0xEE
            bench.wait(point, "an upload of a host array")
        wanted[3 : 3 + nbytes - start] = data[start:]
        bench.same(landed(bench, device, target), wanted, f"a host array of {nbytes} bytes from {start}")


@pytest.mark.clause("device.host-array")
@pytest.mark.parametrize("nbytes", [8, 1000, 300_000, 3_000_003])
def test_reads_fill_it_and_nothing_beside(bench: Bench, nbytes: int) -> None:
    device, arrays = _open(bench)
    source, data = device.create_buffer(nbytes), pattern(2, nbytes)
    with device.staging_ring() as ring, device.readback_pool() as pool:
        bench.wait(ring.upload(data, source), "an upload")
        array = arrays.host_array(nbytes + 32, "u1")
        for start, offset in ((0, 0), (1, 2), (16, 4)):
            array[:] = 0xEE
            count = nbytes - offset
            out = array[start : start + count]
            read = pool.read(source, offset=offset, nbytes=count, out=out).wait(bench.patience)
            bench.check(read is out, "a read with out= returned another array")
            wanted = np.full(nbytes + 32, 0xEE, np.uint8)
            wanted[start : start + count] = data[offset:]
            bench.same(array, wanted, f"a read of {count} bytes into a host array at {start}")
            del read, out
        del array


@pytest.mark.clause("device.host-array")
def test_it_outlives_its_device(bench: Bench) -> None:
    device, arrays = _open(bench)
    data = pattern(3, 100_000)
    array = arrays.host_array(data.nbytes, "u1")
    array[:] = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it says that an array is alive
        device.close()
    bench.same(array, data, "a host array whose device has closed")
