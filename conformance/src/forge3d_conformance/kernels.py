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


def _increment(_threads: tuple[int, int, int], data: Words, step: int, count: int) -> None:
    data[:count] += np.uint32(step)


def _mirror(_threads: tuple[int, int, int], source: Words, target: Words, count: int) -> None:
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

KERNELS: dict[str, KernelSource] = {source.name: source for source in (INCREMENT, MIRROR)}


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
