"""Triangles on a device: kernels for depth and for colour.

Corners are whole quarters of a pixel, so that every language decides alike which pixels a triangle covers;
a pixel belongs to those that cover its centre. Depths and colours are interpolated in single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.pipeline.scene import QUARTERS, Depths, Words
from forge3d_core.protocols import Binding, KernelSource, Param

FAR = 1.0
"""The depth of a pixel that nothing covers."""


def _weights(corners: Words, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return the three edge functions at points in quarters of a pixel, and their sum, from 0 up inside."""
    (x0, y0, x1, y1, x2, y2) = (int(value) for value in corners)
    e0 = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
    e1 = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
    e2 = (x0 - x2) * (y - y2) - (y0 - y2) * (x - x2)
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    sign = -1 if area < 0 else 1
    return e1 * sign, e2 * sign, e0 * sign, np.asarray(area * sign)


def covered(
    corners: Words, width: int, height: int
) -> tuple[tuple[slice, slice], NDArray[Any], tuple[Any, ...]]:
    """Return where a triangle may be, which pixels there it covers, and its weights there, in float32."""
    xs, ys = corners[0::2], corners[1::2]
    left, right = max(0, int(xs.min() - 2) // 4), min(width, int(xs.max()) // 4 + 1)
    top, bottom = max(0, int(ys.min() - 2) // 4), min(height, int(ys.max()) // 4 + 1)
    place = slice(top, max(top, bottom)), slice(left, max(left, right))
    y, x = np.mgrid[place] * QUARTERS + QUARTERS // 2
    *weights, area = _weights(corners, x, y)
    inside = (weights[0] >= 0) & (weights[1] >= 0) & (weights[2] >= 0) & (area > 0)
    share = np.float32(1) / np.float32(max(int(area), 1))
    return place, inside, tuple(weight.astype(np.float32) * share for weight in weights)


def _blend(weights: Sequence[Any], values: Any) -> Any:
    return weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2]


def _host_depth(
    _threads: Any, corners: Words, depths: Depths, depth: Depths, winner: Words, layers: Words,
    width: int, height: int, count: int,
) -> None:  # fmt: skip
    near, who, over = (array[: width * height].reshape(height, width) for array in (depth, winner, layers))
    near[:], who[:], over[:] = FAR, -1, 0
    for number in range(count):
        place, inside, weights = covered(corners[6 * number : 6 * number + 6], width, height)
        z = _blend(weights, depths[3 * number : 3 * number + 3])
        closer = inside & (z < near[place])
        near[place][closer], who[place][closer] = z[closer], number
        over[place] += inside.astype(over.dtype)


def _host_shade(
    _threads: Any, corners: Words, depths: Depths, colors: Depths, winner: Words, rgba: Any, shaded: Any,
    width: int, height: int, count: int, early: int,
) -> None:  # fmt: skip
    pixels, times, who = (array[: width * height].reshape(height, width) for array in (rgba, shaded, winner))
    near = np.full((height, width), FAR, np.float32)
    pixels[:], times[:] = 0, 0
    for number in range(count):
        place, inside, weights = covered(corners[6 * number : 6 * number + 6], width, height)
        z = _blend(weights, depths[3 * number : 3 * number + 3])
        passes = inside & ((who[place] == number) if early else (z < near[place]))
        near[place][passes] = z[passes]
        vertex = colors[12 * number : 12 * number + 12].reshape(3, 4)
        packed = np.zeros(z.shape, np.uint32)
        for channel in range(4):
            value = np.clip(_blend(weights, vertex[:, channel]), 0, 1) * np.float32(255) + np.float32(0.5)
            packed |= value.astype(np.uint32) << np.uint32(8 * channel)
        pixels[place][passes] = packed[passes]
        times[place] += passes.astype(times.dtype)


_WGSL = """
struct Edges { inside: bool, w: vec3<f32> }
fn edges(n: u32, px: i32, py: i32) -> Edges {
    let x0 = corners[6u * n]; let y0 = corners[6u * n + 1u];
    let x1 = corners[6u * n + 2u]; let y1 = corners[6u * n + 3u];
    let x2 = corners[6u * n + 4u]; let y2 = corners[6u * n + 5u];
    let area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0);
    let s = select(1, -1, area < 0);
    let e0 = s * ((x1 - x0) * (py - y0) - (y1 - y0) * (px - x0));
    let e1 = s * ((x2 - x1) * (py - y1) - (y2 - y1) * (px - x1));
    let e2 = s * ((x0 - x2) * (py - y2) - (y0 - y2) * (px - x2));
    let share = 1.0 / f32(max(s * area, 1));
    return Edges(e0 >= 0 && e1 >= 0 && e2 >= 0 && area != 0, vec3<f32>(vec3<i32>(e1, e2, e0)) * share);
}
fn mixed(w: vec3<f32>, a: f32, b: f32, c: f32) -> f32 { return w.x * a + w.y * b + w.z * c; }
"""

_CUDA = """
struct Edges { bool inside; float x, y, z; };
__device__ Edges edges(const int* c, int px, int py) {
    int area = (c[2] - c[0]) * (c[5] - c[1]) - (c[3] - c[1]) * (c[4] - c[0]);
    int s = area < 0 ? -1 : 1;
    int e0 = s * ((c[2] - c[0]) * (py - c[1]) - (c[3] - c[1]) * (px - c[0]));
    int e1 = s * ((c[4] - c[2]) * (py - c[3]) - (c[5] - c[3]) * (px - c[2]));
    int e2 = s * ((c[0] - c[4]) * (py - c[5]) - (c[1] - c[5]) * (px - c[4]));
    float share = 1.0f / (float)max(s * area, 1);
    Edges e = {e0 >= 0 && e1 >= 0 && e2 >= 0 && area != 0, e1 * share, e2 * share, e0 * share};
    return e;
}
__device__ float mixed(Edges e, float a, float b, float c) { return e.x * a + e.y * b + e.z * c; }
"""

_SIZE = (Param("width"), Param("height"), Param("count"))

DEPTH_PREPASS = KernelSource(
    name="depth_prepass",
    bindings=(
        Binding("corners", "read", "i4"),
        Binding("depths", "read", "f4"),
        Binding("depth", "write", "f4"),
        Binding("winner", "write", "i4"),
        Binding("layers", "write", "u4"),
    ),
    params=_SIZE,
    workgroup=(8, 8, 1),
    sources={
        "host": _host_depth,
        "wgsl": """
struct Params { width: u32, height: u32, count: u32 }
@group(0) @binding(0) var<storage, read> corners: array<i32>;
@group(0) @binding(1) var<storage, read> depths: array<f32>;
@group(0) @binding(2) var<storage, read_write> depth: array<f32>;
@group(0) @binding(3) var<storage, read_write> winner: array<i32>;
@group(0) @binding(4) var<storage, read_write> layers: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;
"""
        + _WGSL
        + """
@compute @workgroup_size(8, 8)
fn depth_prepass(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.width || id.y >= p.height) { return; }
    var near = 1.0; var who = -1; var over = 0u;
    for (var n = 0u; n < p.count; n++) {
        let e = edges(n, i32(4u * id.x + 2u), i32(4u * id.y + 2u));
        if (!e.inside) { continue; }
        over++;
        let z = mixed(e.w, depths[3u * n], depths[3u * n + 1u], depths[3u * n + 2u]);
        if (z < near) { near = z; who = i32(n); }
    }
    let at = id.y * p.width + id.x;
    depth[at] = near; winner[at] = who; layers[at] = over;
}
""",
        "cuda": _CUDA
        + """
extern "C" __global__ void depth_prepass(const int* corners, const float* depths, float* depth, int* winner,
        unsigned* layers, unsigned width, unsigned height, unsigned count) {
    unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    float near = 1.0f; int who = -1; unsigned over = 0;
    for (unsigned n = 0; n < count; n++) {
        Edges e = edges(corners + 6 * n, 4 * x + 2, 4 * y + 2);
        if (!e.inside) continue;
        over++;
        float z = mixed(e, depths[3 * n], depths[3 * n + 1], depths[3 * n + 2]);
        if (z < near) { near = z; who = n; }
    }
    unsigned at = y * width + x;
    depth[at] = near; winner[at] = who; layers[at] = over;
}
""",
    },
)
"""For each pixel the least depth, the triangle that has it (-1: none), and how many cover the pixel."""

SHADE = KernelSource(
    name="shade",
    bindings=(
        Binding("corners", "read", "i4"),
        Binding("depths", "read", "f4"),
        Binding("colors", "read", "f4"),
        Binding("winner", "read", "i4"),
        Binding("rgba", "write", "u4"),
        Binding("shaded", "write", "u4"),
    ),
    params=(*_SIZE, Param("early")),
    workgroup=(8, 8, 1),
    sources={
        "host": _host_shade,
        "wgsl": """
struct Params { width: u32, height: u32, count: u32, early: u32 }
@group(0) @binding(0) var<storage, read> corners: array<i32>;
@group(0) @binding(1) var<storage, read> depths: array<f32>;
@group(0) @binding(2) var<storage, read> colors: array<f32>;
@group(0) @binding(3) var<storage, read> winner: array<i32>;
@group(0) @binding(4) var<storage, read_write> rgba: array<u32>;
@group(0) @binding(5) var<storage, read_write> shaded: array<u32>;
@group(0) @binding(6) var<uniform> p: Params;
"""
        + _WGSL
        + """
fn color(n: u32, w: vec3<f32>) -> u32 {
    var packed = 0u;
    for (var c = 0u; c < 4u; c++) {
        let at = 12u * n + c;
        let value = clamp(mixed(w, colors[at], colors[at + 4u], colors[at + 8u]), 0.0, 1.0);
        packed |= u32(value * 255.0 + 0.5) << (8u * c);
    }
    return packed;
}
@compute @workgroup_size(8, 8)
fn shade(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.width || id.y >= p.height) { return; }
    let at = id.y * p.width + id.x;
    let px = i32(4u * id.x + 2u); let py = i32(4u * id.y + 2u);
    var near = 1.0; var pixel = 0u; var times = 0u;
    if (p.early != 0u) {
        if (winner[at] >= 0) {
            let n = u32(winner[at]);
            pixel = color(n, edges(n, px, py).w); times = 1u;
        }
    } else {
        for (var n = 0u; n < p.count; n++) {
            let e = edges(n, px, py);
            if (!e.inside) { continue; }
            let z = mixed(e.w, depths[3u * n], depths[3u * n + 1u], depths[3u * n + 2u]);
            if (z < near) { near = z; pixel = color(n, e.w); times++; }
        }
    }
    rgba[at] = pixel; shaded[at] = times;
}
""",
        "cuda": _CUDA
        + """
__device__ unsigned color(const float* c, Edges e) {
    unsigned packed = 0;
    for (unsigned i = 0; i < 4; i++) {
        float value = fminf(fmaxf(mixed(e, c[i], c[i + 4], c[i + 8]), 0.0f), 1.0f);
        packed |= (unsigned)(value * 255.0f + 0.5f) << (8 * i);
    }
    return packed;
}
extern "C" __global__ void shade(const int* corners, const float* depths, const float* colors,
        const int* winner, unsigned* rgba, unsigned* shaded,
        unsigned width, unsigned height, unsigned count, unsigned early) {
    unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    unsigned at = y * width + x, pixel = 0, times = 0;
    int px = 4 * x + 2, py = 4 * y + 2;
    if (early) {
        int n = winner[at];
        if (n >= 0) { pixel = color(colors + 12 * n, edges(corners + 6 * n, px, py)); times = 1; }
    } else {
        float near = 1.0f;
        for (unsigned n = 0; n < count; n++) {
            Edges e = edges(corners + 6 * n, px, py);
            if (!e.inside) continue;
            float z = mixed(e, depths[3 * n], depths[3 * n + 1], depths[3 * n + 2]);
            if (z < near) { near = z; pixel = color(colors + 12 * n, e); times++; }
        }
    }
    rgba[at] = pixel; shaded[at] = times;
}
""",
    },
)
"""RGBA of each pixel, and how often it was shaded: once if ``early``, else for all that is nearer."""
