"""Hillshading by Horn's method, as one kernel in three languages.

A tile is shaded from a window of elevations, which has a border of one sample beside the tile on each side
where the terrain goes on; where it ends, its last sample is repeated. The shade is one byte a sample, four to
a thread, because WebGPU stores no single bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.protocols import Binding, KernelSource, Param

PIXELS_PER_THREAD = 4
CACHED_SAMPLES = 1 << 16
"""About how many samples numpy shades at a time, so that what it makes on the way stays in the cache."""

TOLERANCE = 1
"""Grey levels by which two backends may differ: each rounds the last bit of a float32 in its own way."""


@attrs.frozen
class Light:
    """Where the sun stands, in degrees, and how much steeper than life the relief is drawn."""

    azimuth: float = 315.0
    altitude: float = 45.0
    exaggeration: float = 2.0

    def scales(self, dx: float, dy: float) -> tuple[float, ...]:
        """Return what :func:`shade` takes, for samples ``dx`` and ``dy`` metres apart."""
        azimuth, altitude = math.radians(self.azimuth), math.radians(self.altitude)
        return (
            self.exaggeration / (8 * dx),
            self.exaggeration / (8 * dy),
            math.cos(altitude) * math.sin(azimuth),
            math.cos(altitude) * math.cos(azimuth),
            math.sin(altitude),
        )


def shade(
    elevation: NDArray[np.float32], sx: float, sy: float, east: float, north: float, up: float
) -> NDArray[np.uint8]:
    """Return the shade, (height, width), of elevations (height + 2, width + 2): the numpy reference.

    Rows run from north to south, columns from west to east.
    """
    z = elevation
    f = np.float32
    a, b, c = z[:-2, :-2], z[:-2, 1:-1], z[:-2, 2:]
    d, e = z[1:-1, :-2], z[1:-1, 2:]
    g, h, i = z[2:, :-2], z[2:, 1:-1], z[2:, 2:]
    eastward = ((c + f(2) * e + i) - (a + f(2) * d + g)) * f(sx)
    northward = ((a + f(2) * b + c) - (g + f(2) * h + i)) * f(sy)
    towards = f(up) - f(east) * eastward - f(north) * northward
    lit = towards / np.sqrt(f(1) + eastward * eastward + northward * northward)
    return (np.clip(lit, f(0), f(1)) * f(255) + f(0.5)).astype(np.uint8)


def _host(
    _threads: Sequence[int],
    elevation: NDArray[np.float32],
    out: NDArray[np.uint8],
    words: int,
    height: int,
    pitch: int,
    rows: int,
    left: int,
    top: int,
    *scales: float,
) -> None:
    width = words * PIXELS_PER_THREAD
    window = elevation[: rows * pitch].reshape(rows, pitch)
    shades = out[: height * width].reshape(height, width)
    beside = (1 - left, left + width + 1 - pitch)  # columns to repeat
    step = max(1, CACHED_SAMPLES // pitch)
    for first in range(0, height, step):
        last = min(first + step, height)
        above, below = first + top - 1, last + top + 1
        block = window[max(above, 0) : min(below, rows)]
        repeated = ((max(-above, 0), max(below - rows, 0)), beside)
        if repeated != ((0, 0), (0, 0)):
            block = np.pad(block, repeated, mode="edge")
        shades[first:last] = shade(block, *scales)


_WGSL = """
struct Params {
    words: u32, height: u32, pitch: u32, rows: u32, left: u32, top: u32,
    sx: f32, sy: f32, east: f32, north: f32, up: f32
}
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

fn column(x: u32, y: u32) -> vec2<f32> {
    let m = y * p.pitch + min(x, p.pitch - 1u);
    let north = z[m - select(0u, p.pitch, y > 0u)];
    let south = z[m + select(0u, p.pitch, y + 1u < p.rows)];
    return vec2<f32>(north + 2.0 * z[m] + south, north - south);
}

fn grey(west: vec2<f32>, here: vec2<f32>, east: vec2<f32>) -> u32 {
    let eastward = (east.x - west.x) * p.sx;
    let northward = (west.y + 2.0 * here.y + east.y) * p.sy;
    let towards = p.up - p.east * eastward - p.north * northward;
    let lit = towards / sqrt(1.0 + eastward * eastward + northward * northward);
    return u32(clamp(lit, 0.0, 1.0) * 255.0 + 0.5);
}

@compute @workgroup_size(8, 8)
fn hillshade(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.words || id.y >= p.height) { return; }
    let x = id.x * 4u + p.left;
    let y = id.y + p.top;
    let a = column(max(x, 1u) - 1u, y);
    let b = column(x, y);
    let c = column(x + 1u, y);
    let d = column(x + 2u, y);
    let e = column(x + 3u, y);
    let f = column(x + 4u, y);
    out[id.y * p.words + id.x] = grey(a, b, c) | (grey(b, c, d) << 8u) | (grey(c, d, e) << 16u)
        | (grey(d, e, f) << 24u);
}
"""

_CUDA = """
struct Column { float sum, slope; };
struct Light { float sx, sy, east, north, up; };

__device__ Column column(const float* n, const float* m, const float* s, unsigned x) {
    return {n[x] + 2.0f * m[x] + s[x], n[x] - s[x]};
}

__device__ unsigned grey(Column west, Column here, Column east, Light l) {
    float eastward = (east.sum - west.sum) * l.sx;
    float northward = (west.slope + 2.0f * here.slope + east.slope) * l.sy;
    float towards = l.up - l.east * eastward - l.north * northward;
    float lit = towards / sqrtf(1.0f + eastward * eastward + northward * northward);
    return (unsigned)(fminf(fmaxf(lit, 0.0f), 1.0f) * 255.0f + 0.5f);
}

extern "C" __global__ void hillshade(const float* z, unsigned* out, unsigned words, unsigned height,
                                     unsigned pitch, unsigned rows, unsigned left, unsigned top,
                                     float sx, float sy, float east, float north, float up) {
    unsigned across = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned down = blockIdx.y * blockDim.y + threadIdx.y;
    if (across >= words || down >= height) return;
    Light light = {sx, sy, east, north, up};
    unsigned x = across * 4 + left, y = down + top, word = 0;
    const float* m = z + (size_t)y * pitch;
    const float* n = y > 0 ? m - pitch : m;
    const float* s = y + 1 < rows ? m + pitch : m;
    Column west = column(n, m, s, x > 0 ? x - 1 : 0), here = column(n, m, s, x);
    for (unsigned i = 0; i < 4; ++i) {
        Column next = column(n, m, s, min(x + i + 1, pitch - 1));
        word |= grey(west, here, next, light) << (8 * i);
        west = here;
        here = next;
    }
    out[(size_t)down * words + across] = word;
}
"""

HILLSHADE = KernelSource(
    name="hillshade",
    sources={"host": _host, "wgsl": _WGSL, "cuda": _CUDA},
    bindings=(Binding("elevation", "read", "f4"), Binding("shade", "write", "u1")),
    params=(
        *(Param(name) for name in ("words", "height", "pitch", "rows", "left", "top")),
        *(Param(name, "f4") for name in ("sx", "sy", "east", "north", "up")),
    ),
    workgroup=(8, 8, 1),
)
