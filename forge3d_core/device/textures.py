"""What textures a device makes: the arguments of ``create_texture``, checked against its limits."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_core.arguments import integer, keywords, shown, text
from forge3d_core.driver import Driver, ShapedTextures, TextureAdopting
from forge3d_core.errors import UsageError
from forge3d_core.foreign import asking
from forge3d_core.formats import FORMATS, TextureShape, texture_format
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.memory.allocator import Allocator
from forge3d_core.memory.textures import Copies, DeviceTexture, TextureMemory
from forge3d_core.protocols import Limits, TextureExtent, TextureFormat


@attrs.frozen(eq=False)
class Textures:
    """Makes the textures of one device. Thread-safety: any thread."""

    limits: Limits
    allocator: Allocator
    gate: CallGuard

    @property
    def _driver(self) -> Driver:
        return self.allocator.driver

    def make(
        self, owner: object, size: tuple[Any, Any], format: TextureFormat | str, label: str, **extent: int
    ) -> DeviceTexture:
        """Return a new texture. Raises as ``create_texture`` of the protocol does."""
        text("label", label)
        keywords("create_texture", extent, TextureExtent.__annotations__)
        shape, layout = self._shape(*size, **extent), texture_format(format)
        self._check_format(shape, layout)
        owned = self.allocator.texture(shape, layout, label)
        memory = TextureMemory.of(owned.allocation.native, shape, layout)
        copies = Copies(self.limits.whole_depth_copies)
        return DeviceTexture(owner, self.allocator, owned, memory, label, copies=copies)

    def adopt(
        self, owner: object, native: Any, format: TextureFormat | str | None, label: str
    ) -> DeviceTexture | None:
        """Return the caller's own texture as one of the device, or None where it is a buffer."""
        driver, layout = self._driver, None if format is None else texture_format(format)
        if not isinstance(driver, TextureAdopting):
            if layout is not None:
                raise UsageError("this device adopts no textures; adopt a buffer, and leave format= out")
            return None
        with self.gate.passing(), asking("the driver's adopt_texture"):
            adopted = driver.adopt_texture(native, layout)
        if adopted is None:
            return None
        owned = self.allocator.adopted(adopted.native, adopted.shape.nbytes(adopted.format))
        memory = TextureMemory.of(adopted.native, adopted.shape, adopted.format)
        copies = Copies(self.limits.whole_depth_copies, adopted.writable)
        return DeviceTexture(owner, self.allocator, owned, memory, label, copies=copies)

    def _shape(self, width: Any, height: Any, **extent: int) -> TextureShape:
        width, height = integer("width", width), integer("height", height)
        most, limits = self.limits.max_texture_size, self.limits
        if not (1 <= width <= most and 1 <= height <= most):
            raise UsageError(
                f"a texture is 1 to {most} texels wide and high here, not {shown(width)} x {shown(height)}"
            )
        shape = TextureShape(width, height, **extent)
        if not shape.plain and not isinstance(self._driver, ShapedTextures):
            raise UsageError("this device has plain 2-d textures alone: one level, layer and sample")
        if shape.layers > limits.max_texture_layers:
            raise UsageError(
                f"a texture has 1 to {limits.max_texture_layers} layers here, not {shape.layers}"
            )
        deepest = limits.max_texture_depth
        if shape.depth > 1 and max(width, height, shape.depth) > deepest:
            raise UsageError(
                f"a 3-d texture is 1 to {deepest} texels along each side here, not {width} x {height} x "
                f"{shape.depth}"
            )
        return shape

    def _check_format(self, shape: TextureShape, format: TextureFormat) -> None:
        known, (across, down) = self.limits.texture_formats, format.block
        if known and format.name in FORMATS and format.name not in known:
            raise UsageError(
                f"this device has no textures of {format.name}; limits.texture_formats lists what it has, "
                "and open_device(features=...) asks for more"
            )
        if format.block != (1, 1) and not isinstance(self._driver, ShapedTextures):
            raise UsageError(
                f"texture format {format.name!r} has blocks of {format.block} texels, and this device has "
                "plain textures alone; take an uncompressed format, or keep the compressed bytes in a buffer"
            )
        if shape.width % across or shape.height % down:
            raise UsageError(
                f"texture format {format.name!r} has blocks of {across}x{down} texels, and a texture of it "
                f"is made of whole ones, not {shape.width} x {shape.height} texels"
            )
