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


@driver_mutant("buffers-below-limit", breaks="device.limits", because="bytes, as the limits allow")
class BuffersBelowLimit(MutantDriver):
    """Buffers above 16 MiB are refused though the limits promise larger ones."""

    def allocate_buffer(self, nbytes: int) -> Any:
        if nbytes > 16 << 20:
            raise UsageError(f"a buffer of {nbytes} bytes is too large")
        return self.driver.allocate_buffer(nbytes)


@driver_mutant("half-charged", breaks="budget.kinds", because="are counted as")
class HalfCharged(MutantDriver):
    """The footprint of memory is half of what it takes."""

    def footprint(self, nbytes: int, heap: Any) -> int:
        return int(self.driver.footprint(nbytes, heap)) // 2


@driver_mutant(
    "adopted-size-rounded", breaks="device.adopt", because="says it has|bytes", requires=("adopt",)
)
class AdoptedSizeRounded(MutantDriver):
    """Adopted memory counts whole words, up."""

    def adopt(self, native: Any) -> Any:
        memory, nbytes = self.driver.adopt(native)
        return memory, -(-nbytes // 4) * 4


@driver_mutant("adopted-size-cut", breaks="device.adopt", because="says it has|bytes", requires=("adopt",))
class AdoptedSizeCut(MutantDriver):
    """Adopted memory counts whole words, down."""

    def adopt(self, native: Any) -> Any:
        memory, nbytes = self.driver.adopt(native)
        return memory, nbytes // 4 * 4 or nbytes
