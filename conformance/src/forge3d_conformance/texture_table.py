"""What textures take, by WebGPU's table alone; the suite's own, and no copy of a backend's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

# Source: WebGPU, section 26.1. Bytes of a texel, or of a block of the size before it.
_PLAIN = {
    (1, 1): "r8unorm r8snorm r8uint r8sint",
    (2, 2): "r16unorm r16snorm r16uint r16sint r16float rg8unorm rg8snorm rg8uint rg8sint depth16unorm",
    (4, 4): "r32uint r32sint r32float rg16unorm rg16snorm rg16uint rg16sint rg16float rgba8unorm "
    "rgba8unorm-srgb rgba8snorm rgba8uint rgba8sint bgra8unorm bgra8unorm-srgb rgb9e5ufloat rgb10a2uint "
    "rgb10a2unorm rg11b10ufloat depth32float",
    (8, 8): "rg32uint rg32sint rg32float rgba16unorm rgba16snorm rgba16uint rgba16sint rgba16float",
    (16, 16): "rgba32uint rgba32sint rgba32float",
    (1, 4): "stencil8",  # of four bytes where an API has no other
    (3, 4): "depth24plus",
    (4, 8): "depth24plus-stencil8",
    (5, 8): "depth32float-stencil8",
}
_BLOCKS_OF_4 = {
    8: "bc1-rgba-unorm bc1-rgba-unorm-srgb bc4-r-unorm bc4-r-snorm etc2-rgb8unorm etc2-rgb8unorm-srgb "
    "etc2-rgb8a1unorm etc2-rgb8a1unorm-srgb eac-r11unorm eac-r11snorm",
    16: "bc2-rgba-unorm bc2-rgba-unorm-srgb bc3-rgba-unorm bc3-rgba-unorm-srgb bc5-rg-unorm bc5-rg-snorm "
    "bc6h-rgb-ufloat bc6h-rgb-float bc7-rgba-unorm bc7-rgba-unorm-srgb etc2-rgba8unorm etc2-rgba8unorm-srgb "
    "eac-rg11unorm eac-rg11snorm",
}
_ASTC = "4x4 5x4 5x5 6x5 6x6 8x5 8x6 8x8 10x5 10x6 10x8 10x10 12x10 12x12"


@attrs.frozen
class Layout:
    """The texels of a block, across and down, and the least and the most bytes that it may take."""

    block: tuple[int, int]
    least: int
    most: int

    def nbytes(self, width: int, height: int, depth: int, levels: int) -> tuple[int, int]:
        """Return the least and the most bytes of so many levels, blocks that are cut off being whole."""
        across, down = self.block
        blocks = 0
        for level in range(levels):
            wide, high, deep = (max(1, extent >> level) for extent in (width, height, depth))
            blocks += -(-wide // across) * -(-high // down) * deep
        return blocks * self.least, blocks * self.most


def _all() -> Iterator[tuple[str, Layout]]:
    for (least, most), names in _PLAIN.items():
        for name in names.split():
            yield name, Layout((1, 1), least, most)
    for nbytes, names in _BLOCKS_OF_4.items():
        for name in names.split():
            yield name, Layout((4, 4), nbytes, nbytes)
    for size in _ASTC.split():
        across, down = map(int, size.split("x"))
        for suffix in ("", "-srgb"):
            yield f"astc-{size}-unorm{suffix}", Layout((across, down), 16, 16)


LAYOUTS: Mapping[str, Layout] = dict(_all())
"""Every format of WebGPU by name."""
