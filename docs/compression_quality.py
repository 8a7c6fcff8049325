"""Print the table of ``docs/large-data.md``: how near compressed textures come to three images.

Run it with ``python docs/compression_quality.py``; it needs the extras ``compression`` and ``demo``.
"""

from __future__ import annotations

from typing import Any

import astc_encoder
import numpy as np

from forge3d_core.compression import CompressedImage, decode, encode, psnr

SIDE = 512
CHANNELS = {"bc1": 3, "bc4": 1, "bc5": 2, "bc6h": 3}  # others: 4
FORMATS = (
    "bc1-rgba-unorm",
    "bc3-rgba-unorm",
    "bc4-r-unorm",
    "bc5-rg-unorm",
    "bc6h-rgb-ufloat",
    "bc7-rgba-unorm",
    "astc-4x4-unorm",
    "astc-6x6-unorm",
    "astc-8x8-unorm",
)


def images() -> dict[str, np.ndarray[Any, Any]]:
    """Return relief (smooth, with edges), normals (two channels that belong together) and noise."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    height = sum(np.sin(x * f * 3.1 + f) * np.cos(y * f * 2.3 - f) / f for f in (2, 5, 11, 23, 47))
    dy, dx = np.gradient(height * SIDE / 8)
    shade = np.clip(128 + 90 * (dx - dy) / np.sqrt(1 + dx**2 + dy**2), 0, 255)
    relief = np.stack([shade, shade * 0.8 + 30, 255 - shade, 255 * (height > -0.3)], -1)
    length = np.sqrt(dx**2 + dy**2 + 1)
    normals = np.stack([-dx / length, -dy / length, 1 / length, np.ones_like(dx)], -1) * 127.5 + 127.5
    noise = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 4))
    return {
        "relief": relief.astype(np.uint8),
        "normals": normals.astype(np.uint8),
        "noise": noise.astype(np.uint8),
    }


def decoded(coded: CompressedImage) -> np.ndarray[Any, Any]:
    """Return the texels; those of ASTC as astcenc decodes them."""
    name = coded.format.name.partition("-")[0]
    if name == "astc":
        config = astc_encoder.ASTCConfig(astc_encoder.ASTCProfile.LDR, *coded.format.block)
        texels = astc_encoder.ASTCImage(astc_encoder.ASTCType.U8, SIDE, SIDE)
        swizzle = astc_encoder.ASTCSwizzle.from_str("RGBA")
        astc_encoder.ASTCContext(config).decompress(coded.blocks.tobytes(), texels, swizzle)
        return np.frombuffer(texels.data, np.uint8).reshape(SIDE, SIDE, 4)
    return decode(coded)


def main() -> None:
    pictures = images()
    print("| format | against RGBA8 | channels |", " | ".join(pictures), "|")
    print("|---|---|---|" + "---|" * len(pictures))
    for name in FORMATS:
        channels = CHANNELS.get(name.partition("-")[0], 4)
        ratio, cells = 0.0, []
        for picture in pictures.values():
            given = picture[..., :channels]
            if "6h" in name:  # as light: the squares, up to 255 times as bright as white
                given = given.astype(np.float32) ** 2 / 255
            coded = encode(given, name)
            ratio = coded.ratio
            cells.append(f"{psnr(given, decoded(coded)[..., :channels]):.1f} dB")
        print(f"| {name} | {ratio:.3g}:1 | {channels} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
