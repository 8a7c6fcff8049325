"""Decoding: blocks to texels, by the host or by a kernel on any device, the same to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.compression import bc1to5, bc6h, bc7
from forge3d_core.compression.device_code import kernel_sources
from forge3d_core.compression.encoder import CompressedImage
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Binding, Buffer, Device, FencePoint, KernelSource, Param, StagingRing


def _by_texel(
    blocks_to_texels: Any,
    _threads: Sequence[int],
    blocks: NDArray[np.uint32],
    texels: NDArray[np.uint32],
    width: int,
    height: int,
    *rest: int,
) -> None:
    """Decode as a kernel does, by a function from blocks to their texels."""
    across, format = rest
    down = -(-height // 4)
    parts = blocks[: 4 * across * down].view(np.uint8).reshape(-1, 16)
    texel = blocks_to_texels(parts, format)
    image = texel.reshape(down, across, 4, 4, 4).swapaxes(1, 2).reshape(down * 4, across * 4, 4)
    target = texels.view(texel.dtype)[: height * width * 4].reshape(height, width, 4)
    target[:] = image[:height, :width]


def _kernel(name: str, sources: dict[str, Any]) -> KernelSource:
    return KernelSource(
        name=name,
        sources=sources,
        bindings=(Binding("blocks", "read", "u4"), Binding("texels", "write", "u4")),
        params=(Param("width"), Param("height"), Param("across"), Param("format")),
        workgroup=(8, 8, 1),
    )


DECODE_BC1TO5 = _kernel("decode_blocks", {"host": bc1to5.decode, "wgsl": bc1to5.WGSL, "cuda": bc1to5.CUDA})
DECODE_BC7 = _kernel(
    "decode_bc7",
    {
        "host": partial(_by_texel, lambda blocks, _format: bc7.decode(blocks)),
        **kernel_sources("decode_bc7", bc7.CODE, 1),
    },
)
DECODE_BC6H = _kernel(
    "decode_bc6h",
    {
        "host": partial(_by_texel, lambda blocks, signed: bc6h.decode(blocks, signed=bool(signed))),
        **kernel_sources("decode_bc6h", bc6h.CODE, 2),
    },
)


@attrs.frozen
class Decoder:
    """A kernel, its parameter for a format, and the dtype of the four channels of a texel."""

    kernel: KernelSource
    number: int
    dtype: str = "u1"
    by_block: bool = False  # a thread for each block, else for each texel


DECODED = {
    **{name: Decoder(DECODE_BC1TO5, number, by_block=True) for name, number in bc1to5.NUMBERS.items()},
    "bc6h-rgb-ufloat": Decoder(DECODE_BC6H, 0, "f2"),
    "bc6h-rgb-float": Decoder(DECODE_BC6H, 1, "f2"),
    "bc7-rgba-unorm": Decoder(DECODE_BC7, 0),
}
"""The formats that are decoded here; of sRGB ones the texels stay encoded so."""


def decode(image: CompressedImage) -> NDArray[Any]:
    """Return the texels (rows, columns, 4) of an image, decoded by the host: bytes, of BC6H half floats."""
    decoder, across = _known(image)
    texels = np.empty((image.height, image.width, 4), decoder.dtype)
    blocks = np.ascontiguousarray(image.blocks).view(np.uint32)
    host: Any = decoder.kernel.sources["host"]
    flat = texels.reshape(-1).view(np.uint32)
    host((1, 1, 1), blocks, flat, image.width, image.height, across, decoder.number)
    return texels


def upload_decoded(device: Device, ring: StagingRing, image: CompressedImage) -> tuple[Buffer, FencePoint]:
    """Upload an image's blocks and decode them on the device: for one that lacks the format.

    Return a buffer of texels in rows, of RGBA8 or, of BC6H, of four half floats, and the point at which they
    are there. What goes up is the blocks alone, a fourth or an eighth of the texels. Raises
    :class:`UsageError` for a format that no kernel decodes; see ``DECODED``.
    """
    decoder, across = _known(image)
    kernel = device.create_kernel(decoder.kernel)
    size = 4 * image.width * image.height * np.dtype(decoder.dtype).itemsize
    texels = device.create_buffer(size, label="decoded texture")
    try:
        with device.create_buffer(image.blocks.nbytes, label="blocks") as blocks:
            ring.upload(image.blocks, blocks)
            commands = device.command_list(label="decode blocks")
            params = (image.width, image.height, across, decoder.number)
            threads = (across, -(-image.height // 4)) if decoder.by_block else (image.width, image.height)
            commands.dispatch(kernel, [blocks, texels], params, threads=threads)
            return texels, device.submit(commands)
    except BaseException:
        texels.close()
        raise


def _known(image: CompressedImage) -> tuple[Decoder, int]:
    """Return how an image is decoded, and how many blocks a row has."""
    decoder = DECODED.get(image.format.name.removesuffix("-srgb"))
    if decoder is None:
        raise UsageError(
            f"{image.format.name!r} is not decoded here; {', '.join(DECODED)} are. Upload it to a device "
            "that samples it"
        )
    across = -(-image.width // 4)
    if image.blocks.nbytes != across * -(-image.height // 4) * image.format.block_bytes:
        raise UsageError(f"{image!r} does not have the blocks of its size")
    return decoder, across
