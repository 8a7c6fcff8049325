"""What devices can do with textures besides: levels, layers, depth, samples, and those of others."""

from __future__ import annotations

from typing import Any, Protocol, Unpack, runtime_checkable

from forge3d_core.protocols.device import Device
from forge3d_core.protocols.memory import ShapedTexture, TextureExtent, TextureFormat


@runtime_checkable
class TextureDevice(Device, Protocol):
    """A device whose textures have levels, layers, depth and samples, and any format.

    Devices that the core assembles are; others need not be.
    """

    def create_texture(
        self,
        width: int,
        height: int,
        format: TextureFormat | str = "rgba8unorm",
        *,
        label: str = "",
        **extent: Unpack[TextureExtent],
    ) -> ShapedTexture:
        """Return a zeroed texture of any format in ``limits.texture_formats``; see :class:`TextureExtent`.

        ``depth`` above 1 makes it a 3-d texture, ``layers`` so many images of one size (6 for a cube). A
        compressed format wants whole blocks. Raises :class:`UsageError` for what the device has no texture
        of: a format that is not listed, sizes beyond ``limits.max_texture_size``, ``max_texture_layers`` or
        ``max_texture_depth``, more levels than halving gives; a :class:`BudgetError` when refused.
        """

    def adopt(self, native: Any, *, label: str = "", format: TextureFormat | str | None = None) -> Any:
        """Do what :meth:`Device.adopt` does, and wrap a native texture as a :class:`ShapedTexture`.

        Where the API's object does not say that it is one, ``format`` does: an array of shape (rows,
        columns[, channels]), or with layers in front, is a texture of it. Reads follow all that the owner
        submitted before, and what the owner submits later follows them. Uploads need a texture that its
        owner made writable for copies.
        """
