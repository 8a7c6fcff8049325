"""Copies, fills and kernels, on every backend: a clear error, or right."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import forge3d_core as forge3d
from forge3d_core import Binding, Device, KernelSource, Param, ReadbackPool, StagingRing

PATIENCE = 30.0
RESIDUES = list(itertools.product(range(4), range(1, 10)))  # offset, size

ADD = KernelSource(
    name="add",
    bindings=[Binding("data", "readwrite", "u4")],
    params=[Param("n"), Param("step", "i4"), Param("scale", "f4")],
    sources={
        "host": lambda threads, data, n, step, scale: np.copyto(
            data[:n], (data[:n].astype("i4") + step) * scale, casting="unsafe"
        ),
        "wgsl": """
            struct Params { n: u32, step: i32, scale: f32 }
            @group(0) @binding(0) var<storage, read_write> data: array<u32>;
            @group(0) @binding(1) var<uniform> p: Params;
            @compute @workgroup_size(64)
            fn add(@builtin(global_invocation_id) id: vec3<u32>) {
                if (id.x < p.n) { data[id.x] = u32(f32(i32(data[id.x]) + p.step) * p.scale); }
            }""",
        "cuda": """
            extern "C" __global__ void add(unsigned* data, unsigned n, int step, float scale) {
                unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
                if (i < n) data[i] = (unsigned)((float)((int)data[i] + step) * scale);
            }""",
    },
)
NO_TEXT = KernelSource(name="nothing", sources={"klingon": "nuqneH"})
BROKEN = KernelSource(
    name="broken",
    bindings=[Binding("data")],
    sources={
        "host": "not callable",  # a string where host wants a function
        "wgsl": "@group(0) @binding(0) var<storage, read_write> d: array<u32>;\n"
        "@compute @workgroup_size(64)\nfn broken() { d[0] = undeclared_name; }",
        "cuda": 'extern "C" __global__ void broken(unsigned char* d)\n{ d[0] = undeclared_name; }',
    },
)


def noise(nbytes: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, nbytes, dtype=np.uint8)


def test_copies_at_every_alignment(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    origin = noise(32)
    cases = [(a, b, n) for a in range(4) for b in range(4) for n in range(1, 10)]
    model = np.full(16 * len(cases), 0xEE, np.uint8)
    source, target = device.create_buffer(32), device.create_buffer(model.nbytes)
    ring.upload(origin, source)
    commands = device.command_list().fill(target, 0xEE)
    for number, (here, there, size) in enumerate(cases):
        at = 16 * number + there
        commands.copy(source, target, size, source_offset=here, target_offset=at)
        model[at : at + size] = origin[here : here + size]
    device.submit(commands)
    assert (pool.read(target).wait(PATIENCE) == model).all()


def test_copies_within_one_buffer(device: Device, ring: StagingRing, pool: ReadbackPool) -> None:
    model = noise(257)
    buffer = device.create_buffer(257)
    ring.upload(model, buffer)
    commands = device.command_list()
    for here, there, size in ((0, 100, 100), (201, 3, 56), (255, 0, 2), (1, 2, 1)):
        commands.copy(buffer, buffer, size, source_offset=here, target_offset=there)
        model[there : there + size] = model[here : here + size].copy()
    with pytest.raises(forge3d.OutOfRange):
        commands.copy(buffer, buffer, 2, source_offset=4, target_offset=5)
    assert len(commands) == 4  # the refused call left it as it was
    device.submit(commands)
    assert (pool.read(buffer).wait(PATIENCE) == model).all()


def test_fills_at_every_alignment(device: Device, pool: ReadbackPool) -> None:
    model = np.zeros(16 * len(RESIDUES) + 3, np.uint8)
    target = device.create_buffer(model.nbytes)
    commands = device.command_list()
    for number, (offset, size) in enumerate(RESIDUES):
        at = 16 * number + offset
        commands.fill(target, number + 1, offset=at, nbytes=size)
        model[at : at + size] = number + 1
    commands.fill(target, 255, offset=model.nbytes - 1)
    model[-1] = 255
    device.submit(commands)
    assert (pool.read(target).wait(PATIENCE) == model).all()


def test_nothing_to_copy_is_nothing(device: Device) -> None:
    one, two = device.create_buffer(8), device.create_buffer(8)
    commands = device.command_list().copy(one, two, 0).fill(one, nbytes=0, offset=8)
    device.submit(commands).wait(PATIENCE)
    with pytest.raises(forge3d.StateError):
        device.submit(commands)
    with pytest.raises(forge3d.StateError):
        commands.fill(one)


def test_bad_commands_raise_at_their_own_line(device: Device) -> None:
    one, closed = device.create_buffer(8), device.create_buffer(8)
    closed.close()
    commands = device.command_list()
    for error, call in (
        (forge3d.OutOfRange, lambda: commands.copy(one, one, 9)),
        (forge3d.OutOfRange, lambda: commands.fill(one, offset=-1, nbytes=1)),
        (forge3d.OutOfRange, lambda: commands.fill(one, offset=9)),
        (forge3d.UsageError, lambda: commands.fill(one, 256)),
        (forge3d.UsageError, lambda: commands.fill(one, -1)),
        (forge3d.Closed, lambda: commands.fill(closed)),
        (forge3d.ForeignObject, lambda: commands.fill(cast(Any, np.zeros(4)))),
    ):
        with pytest.raises(error):
            call()
    assert len(commands) == 0


def test_dispatches_with_their_own_params_in_one_list(
    device: Device, ring: StagingRing, pool: ReadbackPool
) -> None:
    data = np.arange(1000, dtype=np.uint32) + 10
    buffer = device.create_buffer(data.nbytes)
    ring.upload(data, buffer)
    kernel = device.create_kernel(ADD)
    assert device.create_kernel(ADD) is kernel
    commands = device.command_list()
    for n, step, scale in ((1000, -3, 2.0), (500, 7, 1.0), (1, 1, 3.0), (999, 0, 1.0)):
        commands.dispatch(kernel, [buffer], [n, step, scale], threads=n)
        data[:n] = (data[:n].astype(np.int64) + step) * int(scale)
    device.submit(commands)
    assert (pool.read(buffer, dtype="u4").wait(PATIENCE) == data).all()


def test_a_kernel_that_does_not_compile_says_where(device: Device, pool: ReadbackPool) -> None:
    with pytest.raises(forge3d.KernelError) as caught:
        device.create_kernel(BROKEN)
    message = str(caught.value)
    assert "broken" in message
    if device.limits.languages != ("host",):
        assert "undeclared_name" in message
        assert "3" in message if "wgsl" in device.limits.languages else "2" in message  # the line
    with pytest.raises(forge3d.KernelError, match="klingon") as caught:
        device.create_kernel(NO_TEXT)
    assert device.limits.languages[0] in str(caught.value)
    assert not pool.read(device.create_buffer(8)).wait(PATIENCE).any()  # the device works on


@pytest.mark.parametrize(
    "params", [[], [1, 2], [1, 2, 3, 4], [-1, 0, 0], [2**32, 0, 0], [1.5, 0, 0], ["1", 0, 0], [1, 2**31, 1]]
)
def test_wrong_params_are_a_kernel_error(device: Device, params: list[Any]) -> None:
    kernel, buffer = device.create_kernel(ADD), device.create_buffer(64)
    commands = device.command_list()
    with pytest.raises(forge3d.KernelError):
        commands.dispatch(kernel, [buffer], params, threads=1)
    assert len(commands) == 0


def test_wrong_buffers_or_threads_are_refused(device: Device) -> None:
    kernel, buffer = device.create_kernel(ADD), device.create_buffer(64)
    commands = device.command_list()
    for buffers in ([], [buffer, buffer]):
        with pytest.raises(forge3d.KernelError):
            commands.dispatch(kernel, buffers, [1, 0, 1.0], threads=1)
    for threads in (0, -1, (), (1, 1, 1, 1), (1, 0), 2**40):
        with pytest.raises(forge3d.UsageError):
            commands.dispatch(kernel, [buffer], [1, 0, 1.0], threads=threads)
    assert len(commands) == 0
