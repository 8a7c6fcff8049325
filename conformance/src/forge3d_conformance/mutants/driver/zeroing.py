"""Drivers that give out memory which shows what was there before."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant
from forge3d_core.driver import Fill, UploadRows
from forge3d_core.formats import TextureShape

DIRT = 0xCD
KIB, MIB = 1 << 10, 1 << 20


@attrs.frozen(eq=False)
class Fresh:
    """Memory as a command names it, before the core has made anything of it."""

    native: Any
    nbytes: int
    width: int = 0
    height: int = 0
    format: Any = None
    level: int = 0
    layer: int = 0
    slices: int = 1
    aspect: str = "all"

    @property
    def shape(self) -> TextureShape:
        return TextureShape(self.width, self.height)

    @property
    def whole_format(self) -> Any:
        return self.format


class Dirty(MutantDriver):
    """Leaves old bytes in some of the memory that it gives out."""

    def left(self, nbytes: int) -> tuple[int, int]:
        """Return from where to where a buffer of ``nbytes`` is not cleared."""
        return 0, 0

    def allocate_buffer(self, nbytes: int) -> Any:
        native = self.driver.allocate_buffer(nbytes)
        first, last = self.left(nbytes)
        if first < last:
            self.run(Fill(Fresh(native, nbytes), first, last - first, DIRT))
        return native

    def run(self, command: Any) -> None:
        lane = self.driver.info.limits.lanes[0]
        token = self.driver.submit(lane, [command], ())
        self.driver.wait(token, 5.0)
        self.driver.retire(token)


@driver_mutant("zero-tail", breaks="device.zeroed", because="a fresh buffer|fresh bytes")
class ZeroTail(Dirty):
    """The ragged end of a buffer is not cleared."""

    def left(self, nbytes: int) -> tuple[int, int]:
        return nbytes & ~3, nbytes


@driver_mutant("zero-most-64k", breaks="device.zeroed", because="a fresh buffer|fresh bytes")
class ZeroMost64K(Dirty):
    """Of a buffer 64 KiB are cleared."""

    def left(self, nbytes: int) -> tuple[int, int]:
        return 64 * KIB, nbytes


@driver_mutant("zero-most-4m", breaks="device.zeroed", because="a fresh buffer|fresh bytes")
class ZeroMost4M(Dirty):
    """Of a buffer 4 MiB are cleared."""

    def left(self, nbytes: int) -> tuple[int, int]:
        return 4 * MIB, nbytes


@driver_mutant("zero-65535-groups", breaks="device.zeroed", because="a fresh buffer|fresh bytes")
class Zero65535Groups(Dirty):
    """A buffer is cleared by one dispatch of 65 535 groups of 64 words."""

    def left(self, nbytes: int) -> tuple[int, int]:
        return 65_535 * 256, nbytes


@driver_mutant("zero-third", breaks="device.zeroed", because="a fresh buffer|fresh bytes")
class ZeroThird(Dirty):
    """Every third buffer is not cleared."""

    made = 0

    def left(self, nbytes: int) -> tuple[int, int]:
        self.made += 1
        return 0, nbytes if self.made % 3 == 0 else 0


@driver_mutant(
    "zero-one-format", breaks="device.zeroed", because="a fresh texture", requires=("textures", "formats")
)
class ZeroOneFormat(Dirty):
    """Textures of one format are cleared, by way of a view that others do not have."""

    def allocate_texture(self, width: int, height: int, format: Any) -> Any:
        native = self.driver.allocate_texture(width, height, format)
        if format.name != "rgba8unorm":
            self.paint(native, width, height, format, height)
        return native

    def paint(self, native: Any, width: int, height: int, format: Any, rows: int) -> None:
        limits = self.driver.info.limits
        pitch = -(-width * format.block_bytes // limits.row_pitch_alignment) * limits.row_pitch_alignment
        block = self.driver.allocate_block(pitch * rows, "upload")
        block.view()[:] = 1
        target = Fresh(native, 0, width, height, format)
        self.run(UploadRows(block, 0, pitch, target, (0, height - rows), (width, rows)))
        self.driver.free(block)


@driver_mutant("zero-last-row", breaks="device.zeroed", because="a fresh texture", requires=("textures",))
class ZeroLastRow(ZeroOneFormat):
    """The last row of a texture is not cleared."""

    def allocate_texture(self, width: int, height: int, format: Any) -> Any:
        native = self.driver.allocate_texture(width, height, format)
        self.paint(native, width, height, format, 1)
        return native
