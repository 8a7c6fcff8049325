"""Decoding BC1, BC3, BC4 and BC5, by numpy and on a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUMBERS = {"bc1-rgba-unorm": 1, "bc3-rgba-unorm": 3, "bc4-r-unorm": 4, "bc5-rg-unorm": 5}
"""The parameter ``format`` of the kernel, which has a thread for each block."""

CUDA = """
__device__ unsigned mixed(unsigned a, unsigned b, unsigned wa, unsigned wb, unsigned shift) {
    return (((a >> shift) & 255) * wa + ((b >> shift) & 255) * wb) / (wa + wb) << shift;
}
__device__ unsigned mix(unsigned a, unsigned b, unsigned wa, unsigned wb) {
    return mixed(a, b, wa, wb, 0) | mixed(a, b, wa, wb, 8) | mixed(a, b, wa, wb, 16);
}
__device__ unsigned rgb(unsigned c) {
    unsigned r = c >> 11, g = (c >> 5) & 63, b = c & 31;
    return ((r << 3) | (r >> 2)) | (((g << 2) | (g >> 4)) << 8) | (((b << 3) | (b >> 2)) << 16);
}
__device__ unsigned color(unsigned ends, unsigned indices, unsigned i, bool four) {
    unsigned c0 = ends & 65535, c1 = ends >> 16, k = (indices >> (2 * i)) & 3, a = rgb(c0), b = rgb(c1);
    if (k == 0) return a | 0xff000000u;
    if (k == 1) return b | 0xff000000u;
    if (four || c0 > c1) return (k == 2 ? mix(a, b, 2, 1) : mix(a, b, 1, 2)) | 0xff000000u;
    return k == 2 ? mix(a, b, 1, 1) | 0xff000000u : 0;
}
__device__ unsigned level(unsigned low, unsigned high, unsigned i) {
    unsigned a = low & 255, b = (low >> 8) & 255, shift = 16 + 3 * i, k;
    if (shift < 32) k = (low >> shift) | (shift > 29 ? high << (32 - shift) : 0);
    else k = high >> (shift - 32);
    k &= 7;
    if (k == 0) return a;
    if (k == 1) return b;
    if (a > b) return ((8 - k) * a + (k - 1) * b) / 7;
    if (k == 6) return 0;
    if (k == 7) return 255;
    return ((6 - k) * a + (k - 1) * b) / 5;
}
extern "C" __global__ void decode_blocks(const unsigned* blocks, unsigned* texels, unsigned width,
                                         unsigned height, unsigned across, unsigned format) {
    unsigned bx = blockIdx.x * blockDim.x + threadIdx.x, by = blockIdx.y * blockDim.y + threadIdx.y;
    if (bx >= across || by >= (height + 3) / 4) return;
    bool wide = format == 3 || format == 5;
    const unsigned* w = blocks + (size_t)(by * across + bx) * (wide ? 4 : 2);
    for (unsigned i = 0; i < 16; ++i) {
        unsigned x = bx * 4 + (i & 3), y = by * 4 + (i >> 2), texel;
        if (x >= width || y >= height) continue;
        if (format == 1) texel = color(w[0], w[1], i, false);
        else if (format == 3) texel = (color(w[2], w[3], i, true) & 0xffffffu) | level(w[0], w[1], i) << 24;
        else {
            texel = 0xff000000u | level(w[0], w[1], i);
            if (format == 5) texel |= level(w[2], w[3], i) << 8;
        }
        texels[(size_t)y * width + x] = texel;
    }
}
"""

WGSL = """
struct Params { width: u32, height: u32, across: u32, format: u32 }
@group(0) @binding(0) var<storage, read> blocks: array<u32>;
@group(0) @binding(1) var<storage, read_write> texels: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

fn mixed(a: u32, b: u32, wa: u32, wb: u32, shift: u32) -> u32 {
    return ((((a >> shift) & 255u) * wa + ((b >> shift) & 255u) * wb) / (wa + wb)) << shift;
}
fn mix_rgb(a: u32, b: u32, wa: u32, wb: u32) -> u32 {
    return mixed(a, b, wa, wb, 0u) | mixed(a, b, wa, wb, 8u) | mixed(a, b, wa, wb, 16u);
}
fn rgb(c: u32) -> u32 {
    let r = c >> 11u;
    let g = (c >> 5u) & 63u;
    let b = c & 31u;
    return ((r << 3u) | (r >> 2u)) | (((g << 2u) | (g >> 4u)) << 8u) | (((b << 3u) | (b >> 2u)) << 16u);
}
fn color(ends: u32, indices: u32, i: u32, four: bool) -> u32 {
    let c0 = ends & 65535u;
    let c1 = ends >> 16u;
    let k = (indices >> (2u * i)) & 3u;
    let a = rgb(c0);
    let b = rgb(c1);
    if (k == 0u) { return a | 0xff000000u; }
    if (k == 1u) { return b | 0xff000000u; }
    if (four || c0 > c1) {
        if (k == 2u) { return mix_rgb(a, b, 2u, 1u) | 0xff000000u; }
        return mix_rgb(a, b, 1u, 2u) | 0xff000000u;
    }
    if (k == 2u) { return mix_rgb(a, b, 1u, 1u) | 0xff000000u; }
    return 0u;
}
fn level(low: u32, high: u32, i: u32) -> u32 {
    let a = low & 255u;
    let b = (low >> 8u) & 255u;
    let shift = 16u + 3u * i;
    var k = 0u;
    if (shift < 32u) {
        k = low >> shift;
        if (shift > 29u) { k |= high << (32u - shift); }
    } else {
        k = high >> (shift - 32u);
    }
    k &= 7u;
    if (k == 0u) { return a; }
    if (k == 1u) { return b; }
    if (a > b) { return ((8u - k) * a + (k - 1u) * b) / 7u; }
    if (k == 6u) { return 0u; }
    if (k == 7u) { return 255u; }
    return ((6u - k) * a + (k - 1u) * b) / 5u;
}
@compute @workgroup_size(8, 8)
fn decode_blocks(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.across || id.y >= (p.height + 3u) / 4u) { return; }
    let wide = p.format == 3u || p.format == 5u;
    let w = (id.y * p.across + id.x) * select(2u, 4u, wide);
    for (var i = 0u; i < 16u; i++) {
        let x = id.x * 4u + (i & 3u);
        let y = id.y * 4u + (i >> 2u);
        if (x >= p.width || y >= p.height) { continue; }
        var texel = 0u;
        if (p.format == 1u) {
            texel = color(blocks[w], blocks[w + 1u], i, false);
        } else if (p.format == 3u) {
            texel = (color(blocks[w + 2u], blocks[w + 3u], i, true) & 0xffffffu)
                | (level(blocks[w], blocks[w + 1u], i) << 24u);
        } else {
            texel = 0xff000000u | level(blocks[w], blocks[w + 1u], i);
            if (p.format == 5u) { texel |= level(blocks[w + 2u], blocks[w + 3u], i) << 8u; }
        }
        texels[y * p.width + x] = texel;
    }
}
"""


def decode(
    _threads: Sequence[int],
    blocks: NDArray[np.uint32],
    texels: NDArray[np.uint32],
    width: int,
    height: int,
    *rest: int,
) -> None:
    across, format = rest
    words = 4 if format in (3, 5) else 2
    down = -(-height // 4)
    parts = blocks[: across * down * words].reshape(-1, words)
    if format == 1:
        texel = _colors(parts[:, 0], parts[:, 1], four=False)
    elif format == 3:
        texel = _colors(parts[:, 2], parts[:, 3], four=True)
        texel[..., 3] = _levels(parts[:, 0], parts[:, 1])
    else:
        texel = np.zeros((len(parts), 16, 4), np.uint8)
        texel[..., 3] = 255
        for channel in range(words // 2):
            texel[..., channel] = _levels(parts[:, 2 * channel], parts[:, 2 * channel + 1])
    image = texel.reshape(down, across, 4, 4, 4).swapaxes(1, 2).reshape(down * 4, across * 4, 4)
    target = texels[: height * width].view(np.uint8).reshape(height, width, 4)
    target[:] = image[:height, :width]


def _colors(ends: NDArray[np.uint32], indices: NDArray[np.uint32], *, four: bool) -> NDArray[np.uint8]:
    """Return the texels (blocks, 16, 4) of blocks of colours."""
    palette = np.zeros((len(ends), 4, 4), np.uint8)
    first, second = ends & 65535, ends >> 16
    for place, c in enumerate((first, second)):
        r, g, b = c >> 11, (c >> 5) & 63, c & 31
        palette[:, place, :3] = np.stack([r << 3 | r >> 2, g << 2 | g >> 4, b << 3 | b >> 2], -1)
    a, b = palette[:, 0, :3].astype(np.uint16), palette[:, 1, :3].astype(np.uint16)
    opaque = (np.ones(len(ends), bool) if four else first > second)[:, None]
    palette[:, 2, :3] = np.where(opaque, (2 * a + b) // 3, (a + b) // 2)
    palette[:, 3, :3] = np.where(opaque, (a + 2 * b) // 3, 0)
    palette[:, :, 3] = 255
    palette[:, 3, 3] = np.where(opaque[:, 0], 255, 0)
    chosen = indices[:, None] >> np.arange(0, 32, 2, dtype=np.uint32) & 3
    return np.take_along_axis(palette, chosen[..., None].astype(np.intp), 1)


def _levels(low: NDArray[np.uint32], high: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the texels (blocks, 16) of blocks of one channel."""
    bits = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    k = (bits[:, None] >> np.arange(16, 64, 3, dtype=np.uint64) & np.uint64(7)).astype(np.int32)
    a, b = (low & 255).astype(np.int32)[:, None], (low >> 8 & 255).astype(np.int32)[:, None]
    eight = ((8 - k) * a + (k - 1) * b) // 7
    six = np.where(k == 6, 0, np.where(k == 7, 255, ((6 - k) * a + (k - 1) * b) // 5))
    between = np.where(a > b, eight, six)
    return np.where(k == 0, a, np.where(k == 1, b, between)).astype(np.uint8)
