"""Dispatches: each parameter by its dtype, each thread in three directions, and the kernel's own code."""

from __future__ import annotations

import math
import struct
from itertools import product

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.lanes import contents
from forge3d_core.errors import ForgeError
from forge3d_core.protocols import Device, KernelSource

INTEGERS = {
    "u4": (0, 1, 2**24 + 1, 2**31, 2**32 - 1),
    "i4": (0, 1, -1, 2**24 + 1, -(2**24) - 1, 2**31 - 1, -(2**31)),
}
FLOATS = (0.0, -0.0, 1.0, -1.5, 0.1, 3.4e38, 1e-40, math.inf, -math.inf, math.nan)

MANY_GROUPS = 1 << 20
"""Groups that are run at the most: a number that a kernel can count, and soon done."""


def bits(value: float, dtype: str) -> int:
    code = {"u4": "<I", "i4": "<i", "f4": "<f"}[dtype]
    return int(struct.unpack("<I", struct.pack(code, value))[0])


@pytest.mark.clause("device.dispatch", requires=("kernels",))
def test_every_parameter_arrives_as_its_dtype_says(bench: Bench) -> None:
    """One after the other at each place, beside others of every dtype."""
    device = bench.open()
    source = bench.kernel("scalars")
    kernel, seen = device.create_kernel(source), device.create_buffer(4 * len(source.params))
    dtypes = [param.dtype for param in source.params]
    usual = [value + 0.5 if dtype == "f4" else value for value, dtype in enumerate(dtypes, 3)]
    for place, dtype in enumerate(dtypes):
        for value in FLOATS if dtype == "f4" else INTEGERS[dtype]:
            given = [*usual[:place], value, *usual[place + 1 :]]
            bench.wait(device.submit(device.command_list().dispatch(kernel, [seen], given, threads=1)))
            words = contents(bench, device, seen).view(np.uint32)
            for at, (number, kind) in enumerate(zip(given, dtypes, strict=True)):
                bench.check(
                    arrived(int(words[at]), number, kind),
                    f"parameter {at} of {dtypes}, {number!r} as {kind}, arrived as {int(words[at]):#x}",
                )


def arrived(word: int, value: float, dtype: str) -> bool:
    if dtype == "f4" and (math.isnan(value) or 0 < abs(value) < 2**-126):
        (seen,) = struct.unpack("<f", struct.pack("<I", word))
        return math.isnan(seen) if math.isnan(value) else seen in (0.0, value) or abs(seen - value) < 1e-44
    return word == bits(value, dtype)


@pytest.mark.clause("device.dispatch", requires=("kernels",))
def test_threads_run_in_three_directions(bench: Bench) -> None:
    """Counts below, at and past whole workgroups, of which a kernel must leave what is too much alone."""
    device = bench.open()
    source = bench.kernel("grid")
    kernel = device.create_kernel(source)
    most = [n * size for n, size in zip(device.limits.max_groups, source.workgroup, strict=True)]
    for wanted in product((1, 4, 7, 65), (1, 3, 4, 9), (1, 2, 5)):
        width, height, depth = (min(pair) for pair in zip(wanted, most, strict=True))
        marks = device.create_buffer(4 * width * height * depth)
        threads = (width, height, depth)
        bench.wait(device.submit(device.command_list().dispatch(kernel, [marks], threads, threads=threads)))
        z, y, x = np.ogrid[:depth, :height, :width]
        expected = (1 + x + 100 * y + 10_000 * z).astype(np.uint32).reshape(-1)
        seen = contents(bench, device, marks).view(np.uint32)
        bench.same(seen, expected, f"marks of {width} x {height} x {depth} threads")
        marks.close()


@pytest.mark.clause("device.dispatch")
def test_every_thread_of_any_count_runs(bench: Bench) -> None:
    device = bench.open()
    kernel = device.create_kernel(bench.kernel("increment"))
    for count in (1, 63, 64, 65, 100, 127, 128, 129, 1000, 4095, 4097, 16_384):
        count = min(count, 64 * device.limits.max_groups[0])
        data = device.create_buffer(4 * count + 64)
        bench.wait(device.submit(device.command_list().dispatch(kernel, [data], [7, count], threads=count)))
        wanted = np.zeros(count + 16, np.uint32)
        wanted[:count] = 7
        bench.same(contents(bench, device, data).view(np.uint32), wanted, f"words after {count} threads")
        data.close()


@pytest.mark.clause("device.dispatch", requires=("kernels",))
def test_a_kernel_runs_its_own_code(bench: Bench) -> None:
    """Two kernels of one name that take the same are two kernels; and whichever was made first."""
    for order in (("increment", "decrement"), ("decrement", "increment")):
        with bench.open() as device:
            kernels = {name: device.create_kernel(bench.kernel(name)) for name in order}
            for name in (*order, *order):
                data = device.create_buffer(400)
                commands = device.command_list().dispatch(kernels[name], [data], [3, 100], threads=100)
                bench.wait(device.submit(commands))
                wanted = np.full(100, 3 if name == "increment" else 2**32 - 3, np.uint32)
                what = f"words after {name}, one of two kernels of one name"
                bench.same(contents(bench, device, data).view(np.uint32), wanted, what)


@pytest.mark.clause("device.dispatch")
def test_a_dispatch_between_other_commands_takes_its_turn(bench: Bench) -> None:
    device = bench.open()
    kernel = device.create_kernel(bench.kernel("increment"))
    mirror = device.create_kernel(bench.kernel("mirror"))
    one, two = device.create_buffer(256), device.create_buffer(256)
    commands = device.command_list().fill(one, 1).dispatch(kernel, [one], [5, 64], threads=64)
    commands.dispatch(mirror, [one, two], [60], threads=60).fill(one, 9, nbytes=8)
    commands.dispatch(kernel, [two], [1, 3], threads=3).copy(two, one, 8, target_offset=16)
    first, second = np.full(64, 0x01010106, np.uint32), np.zeros(64, np.uint32)
    second[:60] = first[:60]
    first[:2] = 0x09090909
    second[:3] += 1
    first[4:6] = second[:2]
    bench.wait(device.submit(commands))
    bench.same(contents(bench, device, one).view(np.uint32), first, "memory after mixed commands")
    bench.same(contents(bench, device, two).view(np.uint32), second, "memory after mixed commands")


@pytest.mark.clause("device.dispatch")
@pytest.mark.parametrize("lists", ["one list", "a list each"])
def test_each_of_many_dispatches_has_its_own_parameters(bench: Bench, lists: str) -> None:
    """However many there are in a list, or in flight."""
    device = bench.open()
    kernel = device.create_kernel(bench.kernel("increment"))
    buffers = [device.create_buffer(64) for _ in range(5)]
    wanted = np.zeros((5, 16), np.uint32)
    commands = device.command_list()
    for step in range(1, 101):
        count = step % 17
        commands.dispatch(kernel, [buffers[step % 5]], [step, count], threads=max(1, count))
        wanted[step % 5, :count] += np.uint32(step)
        if lists != "one list":
            device.submit(commands)
            commands = device.command_list()
    bench.wait(device.submit(commands))
    for buffer, words in zip(buffers, wanted, strict=True):
        seen = contents(bench, device, buffer).view(np.uint32)
        bench.same(seen, words, f"words after 100 dispatches, in {lists}, each with its own parameters")


@pytest.mark.clause("device.dispatch", requires=("bindings",))
def test_buffers_and_parameters_go_by_their_places(bench: Bench) -> None:
    """What is written is bound between what is read, and there are twelve parameters."""
    device = bench.open()
    source = bench.kernel("weave")
    kernel, words = device.create_kernel(source), 70
    buffers = [device.create_buffer(4 * words) for _ in source.bindings]
    for value, buffer in enumerate(buffers, 1):
        bench.wait(device.submit(device.command_list().fill(buffer, value)))
    weights = [3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]
    bench.wait(
        device.submit(device.command_list().dispatch(kernel, buffers, [words, *weights], threads=words))
    )
    one, _, three, four = (np.uint32(0x01010101 * value) for value in range(1, 5))
    woven = np.full(words, np.uint32(3) * one + np.uint32(5) * three + np.uint32(sum(weights[2:])), np.uint32)
    kept = np.full(words, four + np.uint32(1), np.uint32)
    for what, wanted, buffer in (
        ("what is read first", np.full(words, one), buffers[0]),
        ("what is written second", woven, buffers[1]),
        ("what is read third", np.full(words, three), buffers[2]),
        ("what is read and written last", kept, buffers[3]),
    ):
        seen = contents(bench, device, buffer).view(np.uint32)
        bench.same(seen, wanted, f"four woven buffers, {what}")


@pytest.mark.clause("device.dispatch")
def test_every_thread_of_a_million_runs(bench: Bench) -> None:
    device = bench.open()
    kernel = device.create_kernel(bench.kernel("increment"))
    most = 64 * device.limits.max_groups[0], device.limits.max_buffer_size // 4
    count = min((1 << 20) + 100, *most)
    data = device.create_buffer(4 * count)
    bench.wait(device.submit(device.command_list().dispatch(kernel, [data], [7, count], threads=count)))
    seen = contents(bench, device, data).view(np.uint32)
    bench.same(seen, np.full(count, 7, np.uint32), f"words after {count} threads")


@pytest.mark.clause("device.dispatch")
def test_a_dispatch_beyond_the_limit_is_refused_and_one_at_it_runs(bench: Bench) -> None:
    device = bench.open()
    source = bench.kernel("increment")
    kernel, data = device.create_kernel(source), device.create_buffer(64)
    groups = min(device.limits.max_groups[0], MANY_GROUPS)
    most = 64 * groups
    bench.wait(device.submit(device.command_list().dispatch(kernel, [data], [7, 16], threads=most)))
    seen = contents(bench, device, data).view(np.uint32)
    bench.same(seen, np.full(16, 7, np.uint32), f"words after {most} threads")
    refused(bench, device, source, (64 * device.limits.max_groups[0] + 1, 1, 1))
    refused(bench, device, source, (1, device.limits.max_groups[1] + 1, 1))
    refused(bench, device, source, (1, 1, device.limits.max_groups[2] + 1))


def refused(bench: Bench, device: Device, source: KernelSource, threads: tuple[int, int, int]) -> None:
    kernel, data = device.create_kernel(source), device.create_buffer(64)
    with bench.raises(ForgeError, f"a dispatch of {threads} threads, more than the limits say"):
        device.command_list().dispatch(kernel, [data], [7, 16], threads=threads)
