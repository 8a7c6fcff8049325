"""Hillshading by Horn's method, as one kernel in three languages.

A tile of elevations comes with a border of one sample on each side; the shade is one byte a sample,
four to a thread, because WebGPU stores no single bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.protocols import Binding, KernelSource, Param

PIXELS_PER_THREAD = 4
TOLERANCE = 1
"""Grey levels by which two backends may differ: each rounds the last bit of a float32 in its own way."""


@attrs.frozen
class Light:
    """Where the sun stands, in degrees, and how much steeper than life the relief is drawn."""

    azimuth: float = 315.0
    altitude: float = 45.0
    exaggeration: float = 2.0

    def params(self, width: int, height: int, dx: float, dy: float) -> tuple[int | float, ...]:
        """Return the kernel's parameters for a tile of ``width`` x ``height`` samples."""
        azimuth, altitude = math.radians(self.azimuth), math.radians(self.altitude)
        return (
            width // PIXELS_PER_THREAD,
            height,
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
    *scales: float,
) -> None:
    width = words * PIXELS_PER_THREAD
    tile = elevation[: (height + 2) * (width + 2)].reshape(height + 2, width + 2)
    out[: height * width].reshape(height, width)[:] = shade(tile, *scales)


_WGSL = """
struct Params { words: u32, height: u32, sx: f32, sy: f32, east: f32, north: f32, up: f32 }
@group(0) @binding(0) var<storage, read> z: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

fn grey(column: u32, row: u32) -> u32 {
    let pitch = p.words * 4u + 2u;
    let n = row * pitch + column;
    let m = n + pitch;
    let s = m + pitch;
    let eastward = ((z[n + 2u] + 2.0 * z[m + 2u] + z[s + 2u]) - (z[n] + 2.0 * z[m] + z[s])) * p.sx;
    let northward = ((z[n] + 2.0 * z[n + 1u] + z[n + 2u]) - (z[s] + 2.0 * z[s + 1u] + z[s + 2u])) * p.sy;
    let towards = p.up - p.east * eastward - p.north * northward;
    let lit = towards / sqrt(1.0 + eastward * eastward + northward * northward);
    return u32(clamp(lit, 0.0, 1.0) * 255.0 + 0.5);
}

@compute @workgroup_size(8, 8)
fn hillshade(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.words || id.y >= p.height) { return; }
    let x = id.x * 4u;
    out[id.y * p.words + id.x] = grey(x, id.y) | (grey(x + 1u, id.y) << 8u)
        | (grey(x + 2u, id.y) << 16u) | (grey(x + 3u, id.y) << 24u);
}
"""

_CUDA = """
__device__ unsigned grey(const float* z, unsigned pitch, unsigned column, unsigned row,
                         float sx, float sy, float east, float north, float up) {
    const float* n = z + row * pitch + column;
    const float* m = n + pitch;
    const float* s = m + pitch;
    float eastward = ((n[2] + 2.0f * m[2] + s[2]) - (n[0] + 2.0f * m[0] + s[0])) * sx;
    float northward = ((n[0] + 2.0f * n[1] + n[2]) - (s[0] + 2.0f * s[1] + s[2])) * sy;
    float towards = up - east * eastward - north * northward;
    float lit = towards / sqrtf(1.0f + eastward * eastward + northward * northward);
    return (unsigned)(fminf(fmaxf(lit, 0.0f), 1.0f) * 255.0f + 0.5f);
}

extern "C" __global__ void hillshade(const float* z, unsigned* out, unsigned words, unsigned height,
                                     float sx, float sy, float east, float north, float up) {
    unsigned x = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= words || y >= height) return;
    unsigned pitch = words * 4 + 2, word = 0;
    for (unsigned i = 0; i < 4; ++i)
        word |= grey(z, pitch, x * 4 + i, y, sx, sy, east, north, up) << (8 * i);
    out[y * words + x] = word;
}
"""

HILLSHADE = KernelSource(
    name="hillshade",
    sources={"host": _host, "wgsl": _WGSL, "cuda": _CUDA},
    bindings=(Binding("elevation", "read", "f4"), Binding("shade", "write", "u1")),
    params=(
        Param("words"),
        Param("height"),
        *(Param(name, "f4") for name in ("sx", "sy", "east", "north", "up")),
    ),
    workgroup=(8, 8, 1),
)
