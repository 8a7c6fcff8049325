"""Decoding BC7: eight modes, each with ends of its own size. Source: Direct3D 11, BC7 format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forge3d_core.compression.block_bits import indices, weights
from forge3d_core.compression.device_code import BLOCK_BITS, table
from forge3d_core.compression.partitions import THREE, THREE_ANCHORS, TWO

MODES = (
    # subsets, bits of: partition, rotation, selection, colour, alpha, end's own, shared, index, second index
    (3, 4, 0, 0, 4, 0, 1, 0, 3, 0),
    (2, 6, 0, 0, 6, 0, 0, 1, 3, 0),
    (3, 6, 0, 0, 5, 0, 0, 0, 2, 0),
    (2, 6, 0, 0, 7, 0, 1, 0, 2, 0),
    (1, 0, 2, 1, 5, 6, 0, 0, 2, 3),
    (1, 0, 2, 0, 7, 8, 0, 0, 2, 2),
    (1, 0, 0, 0, 7, 7, 1, 0, 4, 0),
    (2, 6, 0, 0, 5, 5, 1, 0, 2, 0),
)

_PACKED = [
    sum(figure << shift for figure, shift in zip(mode, (0, 2, 5, 7, 8, 11, 15, 16, 17, 20), strict=True))
    for mode in MODES
]

CODE = (
    BLOCK_BITS
    + table("MODES", _PACKED)
    + table("TWO", TWO)
    + table("THREE", THREE)
    + table("THREE_ANCHORS", THREE_ANCHORS)
    + """
fn widened(value: u32, own: u32, n: u32, extra: u32) -> u32 {
    let wide = select(value, (value << 1u) | own, extra == 1u);
    let size = n + extra;
    return ((wide << (8u - size)) | (wide >> (2u * size - 8u))) & 255u;
}
fn decode_bc7(a: u32, b: u32, c: u32, d: u32, i: u32, format: u32, n: u32) -> u32 {
    let mode = countTrailingZeros(a & 255u);
    if (mode > 7u) { return 0u; }
    let m = MODES[mode];
    let subsets = m & 3u;
    let cb = (m >> 8u) & 7u;
    let ab = (m >> 11u) & 15u;
    let own = (m >> 15u) & 1u;
    let shared_ = (m >> 16u) & 1u;
    let ib = (m >> 17u) & 7u;
    let second = (m >> 20u) & 7u;
    var at = mode + 1u;
    let parts = bits(a, b, c, d, at, (m >> 2u) & 7u);
    at = at + ((m >> 2u) & 7u);
    let rotation = bits(a, b, c, d, at, (m >> 5u) & 3u);
    at = at + ((m >> 5u) & 3u);
    let swapped = bits(a, b, c, d, at, (m >> 7u) & 1u);
    at = at + ((m >> 7u) & 1u);
    var subset = 0u;
    var anchor = 0u;
    var other = 0u;
    if (subsets == 2u) {
        subset = (TWO[parts] >> i) & 1u;
        anchor = TWO[parts] >> 16u;
    }
    if (subsets == 3u) {
        subset = (THREE[parts] >> (2u * i)) & 3u;
        anchor = THREE_ANCHORS[parts] & 15u;
        other = THREE_ANCHORS[parts] >> 4u;
    }
    let alphas = at + 6u * subsets * cb;
    let points = alphas + 2u * subsets * ab;
    let indices = points + 2u * subsets * own + subsets * shared_;
    // An anchor's index has its highest bit left out: it is zero.
    var before = select(0u, 1u, i > 0u);
    var less = select(0u, 1u, i == 0u);
    if (subsets >= 2u) {
        before = before + select(0u, 1u, i > anchor);
        less = less + select(0u, 1u, i == anchor);
    }
    if (subsets == 3u) {
        before = before + select(0u, 1u, i > other);
        less = less + select(0u, 1u, i == other);
    }
    var index = bits(a, b, c, d, indices + i * ib - before, ib - less);
    var size = ib;
    var alpha_index = index;
    var alpha_size = ib;
    if (second > 0u) {
        let first = select(0u, 1u, i == 0u);
        let lies = indices + 16u * ib - 1u + i * second - (1u - first);
        alpha_index = bits(a, b, c, d, lies, second - first);
        alpha_size = second;
    }
    if (swapped == 1u) {
        let kept = index;
        index = alpha_index;
        alpha_index = kept;
        size = second;
        alpha_size = ib;
    }
    let extra = own | shared_;
    var low_own = 0u;
    var high_own = 0u;
    if (own == 1u) {
        low_own = bits(a, b, c, d, points + 2u * subset, 1u);
        high_own = bits(a, b, c, d, points + 2u * subset + 1u, 1u);
    }
    if (shared_ == 1u) {
        low_own = bits(a, b, c, d, points + subset, 1u);
        high_own = low_own;
    }
    var texel = 0u;
    for (var k = 0u; k < 3u; k = k + 1u) {
        let place = at + (2u * subsets * k + 2u * subset) * cb;
        let low = widened(bits(a, b, c, d, place, cb), low_own, cb, extra);
        let high = widened(bits(a, b, c, d, place + cb, cb), high_own, cb, extra);
        texel = texel | (blend(low, high, index, size) << (8u * k));
    }
    var alpha = 255u;
    if (ab > 0u) {
        let place = alphas + 2u * subset * ab;
        let low = widened(bits(a, b, c, d, place, ab), low_own, ab, extra);
        let high = widened(bits(a, b, c, d, place + ab, ab), high_own, ab, extra);
        alpha = blend(low, high, alpha_index, alpha_size);
    }
    if (rotation > 0u) {
        let shift = 8u * (rotation - 1u);
        let kept = (texel >> shift) & 255u;
        texel = (texel & (4294967295u ^ (255u << shift))) | (alpha << shift);
        alpha = kept;
    }
    return texel | (alpha << 24u);
}
"""
)


def decode(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the texels (blocks, 16, 4) of blocks (blocks, 16)."""
    texels = np.zeros((len(blocks), 16, 4), np.uint8)
    first = blocks[:, 0]
    for mode in range(8):
        chosen = np.flatnonzero((first & ((2 << mode) - 1)) == 1 << mode)
        if chosen.size:
            texels[chosen] = _of_mode(np.unpackbits(blocks[chosen], axis=1, bitorder="little"), mode)
    return texels


def _of_mode(bits: NDArray[np.uint8], mode: int) -> NDArray[np.uint8]:
    subsets, pb, rb, sb, cb, ab, own, shared, ib, second = MODES[mode]
    at = mode + 1

    def take(count: int, shape: tuple[int, ...] = ()) -> NDArray[np.int32]:
        """Return the next fields of ``count`` bits."""
        nonlocal at
        number = int(np.prod(shape))
        part = bits[:, at : at + count * number].reshape(len(bits), *shape, count).astype(np.int32)
        at += count * number
        fields: NDArray[np.int32] = (part << np.arange(count)).sum(-1, dtype=np.int32)
        return fields

    partition, rotation, swapped = take(pb), take(rb), take(sb)
    ends = np.full((len(bits), 4, subsets, 2), 255, np.int32)
    ends[:, :3] = take(cb, (3, subsets, 2))
    if ab:
        ends[:, 3] = take(ab, (subsets, 2))
    points = take(own, (subsets, 2)) if own else take(shared, (subsets, 1))
    for channel in range(4 if ab else 3):
        size, value = ab if channel == 3 else cb, ends[:, channel]
        if own or shared:
            value, size = value << 1 | points, size + 1
        ends[:, channel] = (value << (8 - size) | value >> (2 * size - 8)) & 255

    texel = np.arange(16)
    subset = np.zeros((len(bits), 16), np.int64)
    anchors = [np.zeros(len(bits), np.int64)]
    if subsets == 2:
        entry = np.array(TWO, np.int64)[partition]
        subset, anchors = entry[:, None] >> texel & 1, [*anchors, entry >> 16]
    elif subsets == 3:
        entry = np.array(THREE_ANCHORS, np.int64)[partition]
        subset = np.array(THREE, np.int64)[partition][:, None] >> 2 * texel & 3
        anchors = [*anchors, entry & 15, entry >> 4]
    index = indices(bits, at, ib, anchors)
    others = indices(bits, at + 16 * ib - subsets, second, anchors[:1]) if second else index
    weight, alphas = weights(index, ib), weights(others, second or ib)
    if sb:
        turned = swapped[:, None] == 1
        weight, alphas = np.where(turned, alphas, weight), np.where(turned, weight, alphas)
    pair = np.take_along_axis(ends, subset[:, None, :, None], 2)  # (blocks, 4, 16, 2)
    each = np.stack([weight, weight, weight, alphas], 1)
    result = (pair[..., 0] * (64 - each) + pair[..., 1] * each + 32) >> 6
    for channel in range(3 if rb else 0):
        turned = rotation == channel + 1
        result[turned, channel], result[turned, 3] = result[turned, 3], result[turned, channel].copy()
    return result.swapaxes(1, 2).astype(np.uint8)
