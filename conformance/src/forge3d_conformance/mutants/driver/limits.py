"""Drivers whose limits lie."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant
from forge3d_core.errors import UsageError


@driver_mutant("odd-alignment", breaks="device.limits", because="no power of two")
class OddAlignment(MutantDriver):
    """The alignment of slices is no power of two."""

    @property
    def info(self) -> Any:
        info = self.driver.info
        return attrs.evolve(info, limits=attrs.evolve(info.limits, staging_alignment=192))


@driver_mutant("small-buffers", breaks="device.limits", because="buffers are 65536 bytes at most")
class SmallBuffers(MutantDriver):
    """Buffers are 64 KiB at most."""

    @property
    def info(self) -> Any:
        info = self.driver.info
        return attrs.evolve(info, limits=attrs.evolve(info.limits, max_buffer_size=65536))


@driver_mutant("textures-below-limit", breaks="device.limits", because="UsageError", requires=("textures",))
class TexturesBelowLimit(MutantDriver):
    """The largest texture that the limits promise is refused."""

    def allocate_texture(self, width: int, height: int, format: Any) -> Any:
        if max(width, height) >= self.driver.info.limits.max_texture_size:
            raise UsageError(f"a texture of {width} x {height} texels is too large")
        return self.driver.allocate_texture(width, height, format)
