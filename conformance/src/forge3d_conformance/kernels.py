"""The suite's own kernels, in the languages that it knows and in those that a backend lends them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.errors import PluginFailed
from forge3d_core.protocols import Binding, KernelSource, Param

Words = NDArray[np.uint32]


def _increment(threads: tuple[int, int, int], data: Words, step: int, count: int) -> None:
    data[: min(count, threads[0])] += np.uint32(step)


def _mirror(threads: tuple[int, int, int], source: Words, target: Words, count: int) -> None:
    count = min(count, threads[0])
    target[:count] = source[:count]


INCREMENT = KernelSource(
    name="increment",
    sources={
        "host": _increment,
        "wgsl": """
struct Params { step: u32, count: u32 }
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@group(0) @binding(1) var<uniform> params: Params;
@compute @workgroup_size(64)
fn increment(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.count) { data[id.x] = data[id.x] + params.step; }
}
""",
        "cuda": """
extern "C" __global__ void increment(unsigned int* data, unsigned int step, unsigned int count) {
    unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) data[i] += step;
}
""",
    },
    bindings=(Binding("data", "readwrite", "u4"),),
    params=(Param("step"), Param("count")),
)
"""Adds ``step`` to the first ``count`` 32-bit words: run twice it differs from run once."""

MIRROR = KernelSource(
    name="mirror",
    sources={
        "host": _mirror,
        "wgsl": """
@group(0) @binding(0) var<storage, read> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> target_: array<u32>;
@group(0) @binding(2) var<uniform> count: u32;
@compute @workgroup_size(64)
fn mirror(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < count) { target_[id.x] = source[id.x]; }
}
""",
        "cuda": """
extern "C" __global__ void mirror(const unsigned int* source, unsigned int* target, unsigned int count) {
    unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) target[i] = source[i];
}
""",
    },
    bindings=(Binding("source", "read", "u4"), Binding("target_", "write", "u4")),
    params=(Param("count"),),
)
"""Copies the first ``count`` 32-bit words."""


def _scalars(_threads: tuple[int, int, int], seen: Words, *values: float) -> None:
    for place, value in enumerate(values):
        dtype = np.dtype(_SCALARS[place])
        seen[place : place + 1] = np.array([value]).astype(dtype).view(np.uint32)


_SCALARS = ("f4", "u4", "i4", "f4", "i4", "u4")

SCALARS = KernelSource(
    name="scalars",
    sources={
        "host": _scalars,
        "wgsl": """
struct Params { a: f32, b: u32, c: i32, d: f32, e: i32, f: u32 }
@group(0) @binding(0) var<storage, read_write> seen: array<u32>;
@group(0) @binding(1) var<uniform> params: Params;
@compute @workgroup_size(64)
fn scalars(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x > 0u) { return; }
    seen[0] = bitcast<u32>(params.a);
    seen[1] = params.b;
    seen[2] = bitcast<u32>(params.c);
    seen[3] = bitcast<u32>(params.d);
    seen[4] = bitcast<u32>(params.e);
    seen[5] = params.f;
}
""",
        "cuda": """
extern "C" __global__ void scalars(unsigned int* seen, float a, unsigned int b, int c, float d, int e,
                                   unsigned int f) {
    if (blockIdx.x * blockDim.x + threadIdx.x) return;
    seen[0] = __float_as_uint(a);
    seen[1] = b;
    seen[2] = (unsigned int)c;
    seen[3] = __float_as_uint(d);
    seen[4] = (unsigned int)e;
    seen[5] = f;
}
""",
    },
    bindings=(Binding("seen", "readwrite", "u4"),),
    params=tuple(Param(name, dtype) for name, dtype in zip("abcdef", _SCALARS, strict=True)),
)
"""Leaves the bits of each of its parameters."""


def _grid(threads: tuple[int, int, int], marks: Words, width: int, height: int, depth: int) -> None:
    wide, high, deep = (min(n, most) for n, most in zip(threads, (width, height, depth), strict=True))
    z, y, x = np.ogrid[:deep, :high, :wide]
    whole = marks[: width * height * depth].reshape(depth, height, width)
    whole[:deep, :high, :wide] += (1 + x + 100 * y + 10_000 * z).astype(np.uint32)


GRID = KernelSource(
    name="grid",
    sources={
        "host": _grid,
        "wgsl": """
struct Params { width: u32, height: u32, depth: u32 }
@group(0) @binding(0) var<storage, read_write> marks: array<u32>;
@group(0) @binding(1) var<uniform> size: Params;
@compute @workgroup_size(4, 4, 2)
fn grid(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < size.width && id.y < size.height && id.z < size.depth) {
        let place = id.x + size.width * (id.y + size.height * id.z);
        marks[place] = marks[place] + 1u + id.x + 100u * id.y + 10000u * id.z;
    }
}
""",
        "cuda": """
extern "C" __global__ void grid(unsigned int* marks, unsigned int width, unsigned int height,
                                unsigned int depth) {
    unsigned int x = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned int y = blockIdx.y * blockDim.y + threadIdx.y;
    unsigned int z = blockIdx.z * blockDim.z + threadIdx.z;
    if (x < width && y < height && z < depth)
        marks[x + width * (y + height * z)] += 1 + x + 100 * y + 10000 * z;
}
""",
    },
    bindings=(Binding("marks", "readwrite", "u4"),),
    params=(Param("width"), Param("height"), Param("depth")),
    workgroup=(4, 4, 2),
)
"""Leaves at each place of a box of words, x fastest, a number that says where it is."""


def _decrement(_threads: tuple[int, int, int], data: Words, step: int, count: int) -> None:
    data[:count] -= np.uint32(step)


DECREMENT = attrs.evolve(
    INCREMENT,
    sources={
        "host": _decrement,
        "wgsl": str(INCREMENT.sources["wgsl"]).replace("+ params.step", "- params.step"),
        "cuda": str(INCREMENT.sources["cuda"]).replace("+= step", "-= step"),
    },
)
"""Is called *increment* and takes what that takes, and subtracts."""


def _weave(
    threads: tuple[int, int, int],
    first: Words,
    target: Words,
    second: Words,
    kept: Words,
    count: int,
    *weights: int,
) -> None:
    count = min(count, threads[0])
    one, two, *others = (np.uint32(weight) for weight in weights)
    target[:count] = one * first[:count] + two * second[:count] + np.uint32(sum(others))
    kept[:count] += np.uint32(1)


_WEIGHTS = "abcdefghijk"

WEAVE = KernelSource(
    name="weave",
    sources={
        "host": _weave,
        "wgsl": """
struct Params { count: u32, a: u32, b: u32, c: u32, d: u32, e: u32, f: u32, g: u32, h: u32, i: u32, j: u32,
                k: u32 }
@group(0) @binding(0) var<storage, read> first: array<u32>;
@group(0) @binding(1) var<storage, read_write> target_: array<u32>;
@group(0) @binding(2) var<storage, read> second: array<u32>;
@group(0) @binding(3) var<storage, read_write> kept: array<u32>;
@group(0) @binding(4) var<uniform> p: Params;
@compute @workgroup_size(64)
fn weave(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.count) { return; }
    let others = p.c + p.d + p.e + p.f + p.g + p.h + p.i + p.j + p.k;
    target_[id.x] = p.a * first[id.x] + p.b * second[id.x] + others;
    kept[id.x] = kept[id.x] + 1u;
}
""",
        "cuda": """
typedef unsigned int u32;
extern "C" __global__ void weave(const u32* first, u32* target, const u32* second, u32* kept, u32 count,
                                 u32 a, u32 b, u32 c, u32 d, u32 e, u32 f, u32 g, u32 h, u32 i, u32 j,
                                 u32 k) {
    u32 x = blockIdx.x * blockDim.x + threadIdx.x;
    if (x >= count) return;
    target[x] = a * first[x] + b * second[x] + c + d + e + f + g + h + i + j + k;
    kept[x] += 1;
}
""",
    },
    bindings=(
        Binding("first", "read", "u4"),
        Binding("target_", "write", "u4"),
        Binding("second", "read", "u4"),
        Binding("kept", "readwrite", "u4"),
    ),
    params=(Param("count"), *map(Param, _WEIGHTS)),
)
"""Reads the first and third of its buffers, writes the second, adds to the last, and has 12 parameters."""


def _fail(_threads: tuple[int, int, int], data: Words) -> None:
    data[:1] = 0xDEAD
    raise ArithmeticError("this kernel fails while it runs")


FAIL = KernelSource(name="fail", sources={"host": _fail}, bindings=(Binding("data", "readwrite", "u4"),))
"""Fails while it runs, in a way that the device survives; only host callables can."""

KERNELS: dict[str, KernelSource] = {
    "increment": INCREMENT,
    "mirror": MIRROR,
    "scalars": SCALARS,
    "grid": GRID,
    "decrement": DECREMENT,
    "weave": WEAVE,
    "fail": FAIL,
}


def translated(lent: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, KernelSource]:
    """Return the kernels with the sources that the backend ``name`` lends for a language of its own.

    Raises :class:`PluginFailed` for a kernel that the suite has not, and for a language that it writes
    itself: there it tests what it knows.
    """
    if strangers := lent.keys() - KERNELS.keys():
        raise PluginFailed(
            f"the conformance subject of {name!r} lends the kernels {', '.join(sorted(strangers))}; the "
            f"suite has {', '.join(KERNELS)}",
            backend=name,
        )
    kernels = dict(KERNELS)
    for kernel, sources in lent.items():
        own = KERNELS[kernel].sources
        if twice := sources.keys() & own.keys():
            raise PluginFailed(
                f"the conformance subject of {name!r} lends {kernel!r} in {', '.join(sorted(twice))}, which "
                "the suite writes itself; lend it in a language that the suite does not know",
                backend=name,
            )
        kernels[kernel] = attrs.evolve(KERNELS[kernel], sources={**own, **sources})
    return kernels


BROKEN: dict[str, Any] = {
    "wgsl": "@compute @workgroup_size(64) fn broken() { let nonsense = undeclared_name; }",
    "cuda": 'extern "C" __global__ void broken() { undeclared_name = 1; }',
}
"""Sources of a kernel ``broken`` that no compiler accepts; the fault is the name ``undeclared_name``."""
