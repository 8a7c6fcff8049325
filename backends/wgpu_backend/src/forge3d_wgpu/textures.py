"""Textures: which formats a device has, and what each may be used for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import wgpu

from forge3d_core.driver import AdoptedTexture
from forge3d_core.errors import UsageError
from forge3d_core.formats import FORMATS, TextureShape, is_depth_stencil
from forge3d_core.protocols import TextureFormat
from forge3d_wgpu.errors import NativeErrors

USAGE = wgpu.TextureUsage.TEXTURE_BINDING | wgpu.TextureUsage.COPY_SRC | wgpu.TextureUsage.COPY_DST

_CHANNELS = ("r", "rg", "rgba")

# WebGPU, "Plain color formats": those with the storage binding capability on every adapter.
STORAGE_FORMATS = frozenset(
    f"{channels}{kind}"
    for channels, kinds in {
        "r32": ("uint", "sint", "float"),
        "rg32": ("uint", "sint", "float"),
        "rgba32": ("uint", "sint", "float"),
        "rgba16": ("uint", "sint", "float"),
        "rgba8": ("unorm", "snorm", "uint", "sint"),
    }.items()
    for kind in kinds
)

_RENDERED_KINDS = {8: ("unorm", "uint", "sint"), 16: ("uint", "sint", "float"), 32: ("uint", "sint", "float")}

RENDERABLE = frozenset(
    (
        *(
            f"{letters}{bits}{kind}"
            for letters in _CHANNELS
            for bits, kinds in _RENDERED_KINDS.items()
            for kind in kinds
        ),
        *("rgba8unorm-srgb", "bgra8unorm", "bgra8unorm-srgb", "rgb10a2uint", "rgb10a2unorm"),
        *(name for name, format in FORMATS.items() if is_depth_stencil(format)),
    )
)
"""The formats that render passes draw to on every adapter. Source: WebGPU, section 26.1.1."""

_COMPRESSED = {
    "bc": "texture-compression-bc",
    "etc2": "texture-compression-etc2",
    "eac": "texture-compression-etc2",
    "astc": "texture-compression-astc",
}
_PLAIN = {
    "depth32float-stencil8": "depth32float-stencil8",
    **{
        f"{letters}16{kind}": "texture-format16bit-norm"
        for letters in _CHANNELS
        for kind in ("unorm", "snorm")
    },
}

FEATURES = tuple(dict.fromkeys((*_COMPRESSED.values(), *_PLAIN.values())))
"""The features that bring formats."""


def feature_of(format: TextureFormat) -> str | None:
    """Return the feature that a device must have for textures of ``format``, if any."""
    if format.block == (1, 1):
        return _PLAIN.get(format.name)
    return next((feature for family, feature in _COMPRESSED.items() if format.name.startswith(family)), None)


def formats_of(features: Collection[str]) -> tuple[str, ...]:
    """Return the names of the formats that a device with these features has."""
    known = set(wgpu.TextureFormat)
    needed = {name: feature_of(format) for name, format in FORMATS.items() if name in known}
    return tuple(name for name, feature in needed.items() if feature is None or feature in features)


def create_texture(
    device: Any,
    shape: TextureShape,
    format: TextureFormat,
    storage: frozenset[str] = STORAGE_FORMATS,
    rendered: frozenset[str] = RENDERABLE,
) -> Any:
    """Return a zeroed texture; :class:`UsageError` for what the device has none of.

    ``storage`` and ``rendered`` are the formats that kernels bind for writing and render passes draw to.
    """
    if format.name not in set(wgpu.TextureFormat):
        raise UsageError(f"{format.name!r} is not a texture format that wgpu knows")
    usage, flat = USAGE, shape.depth == 1
    if format.name in storage and shape.samples == 1:
        usage |= wgpu.TextureUsage.STORAGE_BINDING
    if format.name in rendered and flat:
        usage |= wgpu.TextureUsage.RENDER_ATTACHMENT
    with NativeErrors(f"allocating a texture of {shape.width} x {shape.height} {format.name}", UsageError):
        return device.create_texture(
            size=(shape.width, shape.height, shape.layers if flat else shape.depth),
            dimension="2d" if flat else "3d",
            mip_level_count=shape.mip_levels,
            sample_count=shape.samples,
            format=format.name,
            usage=usage,
        )


def is_texture(native: Any) -> bool:
    return isinstance(native, wgpu.GPUTexture)


def describe_texture(device: Any, native: Any, format: TextureFormat | None) -> AdoptedTexture:
    """Return what the caller's own texture is, or raise :class:`UsageError`."""
    if not is_texture(native):
        raise UsageError(f"the wgpu backend adopts a wgpu.GPUTexture, not a {type(native).__name__}")
    if native._device is not device:
        raise UsageError("the texture belongs to another wgpu device; adopt it on the device that made it")
    if format is not None and format.name != native.format:
        raise UsageError(f"the texture is of {native.format}, not {format.name}; leave format= out")
    if native.dimension == "1d":
        raise UsageError("forge3d has no 1-d textures; make it 2-d, of one row")
    if not native.usage & wgpu.TextureUsage.COPY_SRC and native.sample_count == 1:
        raise UsageError(
            f"the texture's usage is {native.usage:#x} and must include COPY_SRC, so that it can be read; "
            "create it with that (pygfx: gfx.Texture(..., usage=wgpu.TextureUsage.COPY_SRC))"
        )
    with NativeErrors("adopting a texture", UsageError):
        native.create_view()  # there is no other way to ask whether it was destroyed
    width, height, slices = native.size
    flat = native.dimension == "2d"
    shape = TextureShape(
        width,
        height,
        depth=1 if flat else slices,
        layers=slices if flat else 1,
        mip_levels=native.mip_level_count,
        samples=native.sample_count,
    )
    writable = bool(native.usage & wgpu.TextureUsage.COPY_DST)
    return AdoptedTexture(native, shape, FORMATS[native.format], writable)
