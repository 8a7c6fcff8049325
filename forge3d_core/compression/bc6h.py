"""Decoding BC6H: three half floats by fourteen modes. Source: Direct3D 11, BC6H format."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.compression.block_bits import indices, weights
from forge3d_core.compression.device_code import BLOCK_BITS, table
from forge3d_core.compression.partitions import TWO

PARTITION, INDICES = 77, (65, 82)
"""Where the partition lies, and the indices of blocks of one pair of ends and of two."""


@attrs.frozen
class Mode:
    """A mode: its number in a block, the bits of an end, those of what others add, and whether they add."""

    number: int
    bits: int
    deltas: tuple[int, int, int]
    adds: bool
    layout: str

    @property
    def pairs(self) -> int:
        """How many pairs of ends a block has."""
        return 1 if self.number & 3 == 3 else 2

    @property
    def runs(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield channel and end, where a run of their bits lies, which bit it begins with, and how many."""
        at = 2 if self.number < 2 else 5
        for name, first, last in re.findall(r"([rgb][0-3])\[(\d+)(?::(\d+))?\]", self.layout):
            high, low = int(first), int(last or first)
            turned = [(one, 1) for one in range(low, high - 1, -1)]
            for bit, count in turned if low > high else [(low, high - low + 1)]:
                yield "rgb".index(name[0]), int(name[1]), at, bit, count
                at += count


MODES = (
    Mode(
        0,
        10,
        (5, 5, 5),
        True,
        "g2[4] b2[4] b3[4] r0[9:0] g0[9:0] b0[9:0] r1[4:0] g3[4] g2[3:0] g1[4:0] b3[0] g3[3:0] b1[4:0] b3[1] "
        "b2[3:0] r2[4:0] b3[2] r3[4:0] b3[3]",
    ),
    Mode(
        1,
        7,
        (6, 6, 6),
        True,
        "g2[5] g3[4] g3[5] r0[6:0] b3[0] b3[1] b2[4] g0[6:0] b2[5] b3[2] g2[4] b0[6:0] b3[3] b3[5] b3[4] "
        "r1[5:0] g2[3:0] g1[5:0] g3[3:0] b1[5:0] b2[3:0] r2[5:0] r3[5:0]",
    ),
    Mode(
        2,
        11,
        (5, 4, 4),
        True,
        "r0[9:0] g0[9:0] b0[9:0] r1[4:0] r0[10] g2[3:0] g1[3:0] g0[10] b3[0] g3[3:0] b1[3:0] b0[10] b3[1] "
        "b2[3:0] r2[4:0] b3[2] r3[4:0] b3[3]",
    ),
    Mode(
        6,
        11,
        (4, 5, 4),
        True,
        "r0[9:0] g0[9:0] b0[9:0] r1[3:0] r0[10] g3[4] g2[3:0] g1[4:0] g0[10] g3[3:0] b1[3:0] b0[10] b3[1] "
        "b2[3:0] r2[3:0] b3[0] b3[2] r3[3:0] g2[4] b3[3]",
    ),
    Mode(
        10,
        11,
        (4, 4, 5),
        True,
        "r0[9:0] g0[9:0] b0[9:0] r1[3:0] r0[10] b2[4] g2[3:0] g1[3:0] g0[10] b3[0] g3[3:0] b1[4:0] b0[10] "
        "b2[3:0] r2[3:0] b3[1] b3[2] r3[3:0] b3[4] b3[3]",
    ),
    Mode(
        14,
        9,
        (5, 5, 5),
        True,
        "r0[8:0] b2[4] g0[8:0] g2[4] b0[8:0] b3[4] r1[4:0] g3[4] g2[3:0] g1[4:0] b3[0] g3[3:0] b1[4:0] b3[1] "
        "b2[3:0] r2[4:0] b3[2] r3[4:0] b3[3]",
    ),
    Mode(
        18,
        8,
        (6, 5, 5),
        True,
        "r0[7:0] g3[4] b2[4] g0[7:0] b3[2] g2[4] b0[7:0] b3[3] b3[4] r1[5:0] g2[3:0] g1[4:0] b3[0] g3[3:0] "
        "b1[4:0] b3[1] b2[3:0] r2[5:0] r3[5:0]",
    ),
    Mode(
        22,
        8,
        (5, 6, 5),
        True,
        "r0[7:0] b3[0] b2[4] g0[7:0] g2[5] g2[4] b0[7:0] g3[5] b3[4] r1[4:0] g3[4] g2[3:0] g1[5:0] g3[3:0] "
        "b1[4:0] b3[1] b2[3:0] r2[4:0] b3[2] r3[4:0] b3[3]",
    ),
    Mode(
        26,
        8,
        (5, 5, 6),
        True,
        "r0[7:0] b3[1] b2[4] g0[7:0] b2[5] g2[4] b0[7:0] b3[5] b3[4] r1[4:0] g3[4] g2[3:0] g1[4:0] b3[0] "
        "g3[3:0] b1[5:0] b2[3:0] r2[4:0] b3[2] r3[4:0] b3[3]",
    ),
    Mode(
        30,
        6,
        (6, 6, 6),
        False,
        "r0[5:0] g3[4] b3[0] b3[1] b2[4] g0[5:0] g2[5] b2[5] b3[2] g2[4] b0[5:0] g3[5] b3[3] b3[5] b3[4] "
        "r1[5:0] g2[3:0] g1[5:0] g3[3:0] b1[5:0] b2[3:0] r2[5:0] r3[5:0]",
    ),
    Mode(3, 10, (10, 10, 10), False, "r0[9:0] g0[9:0] b0[9:0] r1[9:0] g1[9:0] b1[9:0]"),
    Mode(
        7,
        11,
        (9, 9, 9),
        True,
        "r0[9:0] g0[9:0] b0[9:0] r1[8:0] r0[10] g1[8:0] g0[10] b1[8:0] b0[10]",
    ),
    Mode(
        11,
        12,
        (8, 8, 8),
        True,
        "r0[9:0] g0[9:0] b0[9:0] r1[7:0] r0[10:11] g1[7:0] g0[10:11] b1[7:0] b0[10:11]",
    ),
    Mode(
        15,
        16,
        (4, 4, 4),
        True,
        "r0[9:0] g0[9:0] b0[9:0] r1[3:0] r0[10:15] g1[3:0] g0[10:15] b1[3:0] b0[10:15]",
    ),
)


def _runs() -> tuple[list[int], list[int]]:
    """Return the runs of bits of each end, for each mode and channel, and where an end's begin among them."""
    runs, starts = [], [0]
    for mode in MODES:
        lies = list(mode.runs)
        for one in range(12):
            runs += [
                at | bit << 7 | count << 11
                for channel, end, at, bit, count in lies
                if channel * 4 + end == one
            ]
            starts.append(len(runs))
    return runs, starts


_RUNS, _STARTS = _runs()
_BY_NUMBER = [next((i for i, mode in enumerate(MODES) if mode.number == number), 15) for number in range(32)]
_FIGURES = [
    mode.bits | mode.deltas[0] << 5 | mode.deltas[1] << 10 | mode.deltas[2] << 15 | mode.adds << 20
    for mode in MODES
]

CODE = (
    BLOCK_BITS
    + table("RUNS", _RUNS)
    + table("STARTS", _STARTS)
    + table("NUMBERS", _BY_NUMBER)
    + table("FIGURES", _FIGURES)
    + table("TWO", TWO[:32])
    + """
fn signed_of(value: u32, n: u32) -> i32 {
    return i32(value << (32u - n)) >> (32u - n);
}
fn end_of(a: u32, b: u32, c: u32, d: u32, mode: u32, wanted: u32) -> u32 {
    var value = 0u;
    for (var n = STARTS[12u * mode + wanted]; n < STARTS[12u * mode + wanted + 1u]; n = n + 1u) {
        let run = RUNS[n];
        value = value | (bits(a, b, c, d, run & 127u, run >> 11u) << ((run >> 7u) & 15u));
    }
    return value;
}
fn wide(value: i32, n: u32, with_sign: u32) -> i32 {
    if (with_sign == 0u) {
        if (n >= 15u || value == 0) { return value; }
        if (value == i32((1u << n) - 1u)) { return 65535; }
        return ((value << 15u) + 16384) >> (n - 1u);
    }
    if (n >= 16u || value == 0) { return value; }
    var size: i32 = value;
    if (value < 0) { size = 0 - value; }
    if (size >= i32((1u << (n - 1u)) - 1u)) { size = 32767; }
    else { size = ((size << 15u) + 16384) >> (n - 1u); }
    return select(size, 0 - size, value < 0);
}
fn channel_of(a: u32, b: u32, c: u32, d: u32, i: u32, with_sign: u32, channel: u32) -> u32 {
    let mode = NUMBERS[select(a & 3u, a & 31u, (a & 2u) != 0u)];
    if (mode == 15u) { return 0u; }
    let one = (a & 3u) == 3u;
    let m = FIGURES[mode];
    let n = m & 31u;
    let delta = (m >> (5u * (channel + 1u))) & 31u;
    let adds = (m >> 20u) == 1u;
    // An anchor's index has its highest bit left out: it is zero.
    var subset = 0u;
    var less = select(0u, 1u, i == 0u);
    var at = select(64u + 4u * i, 65u, i == 0u);
    var size = 4u;
    if (!one) {
        let parts = TWO[bits(a, b, c, d, 77u, 5u)];
        let anchor = parts >> 16u;
        subset = (parts >> i) & 1u;
        less = less | select(0u, 1u, i == anchor);
        at = 82u + 3u * i - select(0u, 1u, i > 0u) - select(0u, 1u, i > anchor);
        size = 3u;
    }
    let index = bits(a, b, c, d, at, size - less);
    let mask = (1u << n) - 1u;
    var first = 0u;
    var low: i32 = 0;
    var high: i32 = 0;
    for (var e = 0u; e < 3u; e = e + 1u) {
        let place = select(2u * subset + e - 1u, 0u, e == 0u);
        let raw = end_of(a, b, c, d, mode, 4u * channel + place);
        first = select(first, raw, e == 0u);
        var value: i32 = i32(raw);
        if (adds && place > 0u) { value = i32((first + u32(signed_of(raw, delta))) & mask); }
        if (with_sign == 1u) { value = signed_of(u32(value), n); }
        low = high;
        high = wide(value, n, with_sign);
    }
    let most = (1u << size) - 1u;
    let weight: i32 = i32((64u * index + most / 2u) / most);
    let value: i32 = (low * (64 - weight) + high * weight + 32) >> 6u;
    if (with_sign == 0u) { return u32((value * 31) >> 6u); }
    if (value < 0) { return 32768u | u32(((0 - value) * 31) >> 5u); }
    return u32((value * 31) >> 5u);
}
fn decode_bc6h(a: u32, b: u32, c: u32, d: u32, i: u32, with_sign: u32, n: u32) -> u32 {
    var word = 1006632960u;
    for (var k = 2u * n; k < min(2u * n + 2u, 3u); k = k + 1u) {
        let half = channel_of(a, b, c, d, i, with_sign, k);
        word = select(half | 1006632960u, select(word | (half << 16u), half, k == 0u), n == 0u);
    }
    return word;
}
"""
)


def decode(blocks: NDArray[np.uint8], *, signed: bool) -> NDArray[np.float16]:
    """Return the texels (blocks, 16, 4) of blocks (blocks, 16); alpha is 1."""
    texels = np.zeros((len(blocks), 16, 4), np.uint16)
    texels[..., 3] = np.float16(1).view(np.uint16)
    first = blocks[:, 0]
    number = np.where(first & 2, first & 31, first & 3)
    for mode in MODES:
        chosen = np.flatnonzero(number == mode.number)
        if chosen.size:
            bits = np.unpackbits(blocks[chosen], axis=1, bitorder="little").astype(np.int64)
            texels[chosen, :, :3] = _of_mode(bits, mode, signed)
    return texels.view(np.float16)


def _of_mode(bits: NDArray[np.int64], mode: Mode, signed: bool) -> NDArray[np.int64]:
    ends = np.zeros((len(bits), 3, 4), np.int64)
    for channel, end, at, bit, count in mode.runs:
        ends[:, channel, end] |= (bits[:, at : at + count] << np.arange(bit, bit + count)).sum(1)
    if mode.adds:
        sizes = np.array(mode.deltas)[:, None]
        added = (ends[..., 1:] ^ 1 << sizes - 1) - (1 << sizes - 1)
        ends[..., 1:] = ends[..., :1] + added & (1 << mode.bits) - 1
    if signed:
        ends = (ends ^ 1 << mode.bits - 1) - (1 << mode.bits - 1)
    ends = _wide(ends, mode.bits, signed)

    texel, subset = np.arange(16), np.zeros((len(bits), 16), np.int64)
    anchors, size, place = [np.zeros(len(bits), np.int64)], 4, INDICES[0]
    if mode.pairs == 2:
        partition = (bits[:, PARTITION : PARTITION + 5] << np.arange(5)).sum(1)
        entry = np.array(TWO, np.int64)[partition]
        subset, anchors = entry[:, None] >> texel & 1, [*anchors, entry >> 16]
        size, place = 3, INDICES[1]
    index = indices(bits, place, size, anchors)
    weight = weights(index, size)[:, None]
    low, high = (np.take_along_axis(ends, 2 * subset[:, None] + end, 2) for end in (0, 1))
    value = low * (64 - weight) + high * weight + 32 >> 6
    half = np.where(value < 0, 0x8000 | -value * 31 >> 5, value * 31 >> 5) if signed else value * 31 >> 6
    return half.swapaxes(1, 2)


def _wide(value: NDArray[np.int64], bits: int, signed: bool) -> NDArray[np.int64]:
    """Return ends at 16 bits."""
    if bits >= (16 if signed else 15):
        return value
    size = np.abs(value)
    most = (1 << bits - signed) - 1
    wide = np.where(size >= most, 0x7FFF if signed else 0xFFFF, (size << 15) + 0x4000 >> bits - 1)
    return np.where(size == 0, 0, np.sign(value) * wide)
