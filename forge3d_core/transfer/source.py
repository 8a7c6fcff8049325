"""What an upload copies: an array's bytes cut into parts, each copied once, straight into staging."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.driver import HostBlock, Upload, UploadRows
from forge3d_core.errors import TooLarge
from forge3d_core.memory.resources import BufferMemory
from forge3d_core.memory.textures import TextureMemory, Triple
from forge3d_core.transfer.moving import MOVER
from forge3d_core.units import align_up, format_bytes

Bytes = NDArray[np.uint8]

_RAW: dict[int, np.dtype[Any]] = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
"""What items of these sizes are copied as: their bytes as they are, by numpy's fastest loops."""


class Part(Protocol):
    """A part of an upload. Parts touch different bytes, and may be copied in any order."""

    @property
    def nbytes(self) -> int:
        """The bytes of the array that it brings."""

    @property
    def room(self) -> int:
        """How much staging memory it takes, from its beginning."""

    def fill(self, memory: Bytes) -> None:
        """Copy from the array into staging memory."""

    def command(self, block: HostBlock, block_offset: int = 0) -> Upload | UploadRows:
        """Return the copy from there to the device."""


class Parts(Protocol):
    """All parts of an upload, by number, from any thread."""

    def __len__(self) -> int: ...

    def part(self, number: int) -> Part: ...


@attrs.frozen(eq=False)
class Run:
    """Bytes for a buffer; they start at ``lead`` of the staging memory, which is aligned like the target."""

    array: NDArray[Any]  # items that are copied as they are, 1-d at least
    start: int  # in bytes of the array in C order
    nbytes: int
    lead: int
    target: BufferMemory
    offset: int

    @property
    def room(self) -> int:
        return self.lead + self.nbytes

    def fill(self, memory: Bytes) -> None:
        array, item = self.array, self.array.itemsize
        goal = memory[self.lead : self.lead + self.nbytes]
        if item == 1 and array.ndim == 1:  # bytes without gaps, as most are
            MOVER.copy(goal, array[self.start : self.start + self.nbytes])
        else:
            copy_run(goal.view(array.dtype), array, self.start // item, (self.start + self.nbytes) // item)

    def command(self, block: HostBlock, block_offset: int = 0) -> Upload:
        return Upload(block, block_offset + self.lead, self.target, self.offset + self.start, self.nbytes)


@attrs.frozen(eq=False)
class Runs:
    """An array for a buffer at ``offset``, in parts that take ``room`` bytes of staging memory."""

    array: NDArray[Any]
    target: BufferMemory
    offset: int
    size: int  # of a part, but the last
    lead: int

    @classmethod
    def cut(
        cls, array: NDArray[Any], target: BufferMemory, offset: int, room: int, alignment: int = 1
    ) -> Runs:
        """Cut ``array`` so that each part lies in staging memory as its bytes do in the target."""
        lead = offset % alignment
        items = raw_items(array, room - lead, alignment)
        unit = math.lcm(items.itemsize, alignment)
        return cls(items, target, offset, (room - lead) // unit * unit, lead)

    def __len__(self) -> int:
        return -(-self.array.nbytes // self.size)

    def part(self, number: int) -> Run:
        start = number * self.size
        nbytes = min(self.size, self.array.nbytes - start)
        return Run(self.array, start, nbytes, self.lead, self.target, self.offset)


@attrs.frozen(eq=False)
class Tile:
    """A rectangle of one slice of a texture, its rows (of blocks) ``pitch`` bytes apart in staging memory."""

    array: NDArray[Any]  # (rows, columns, ...)
    pitch: int
    target: TextureMemory
    origin: Triple
    size: tuple[int, int]  # texels across and down

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def room(self) -> int:
        rows = len(self.array)
        return (rows - 1) * self.pitch + self.array.nbytes // rows

    def fill(self, memory: Bytes) -> None:
        array = self.array
        inner = [array.itemsize * math.prod(array.shape[axis + 1 :]) for axis in range(1, array.ndim)]
        goal: NDArray[Any] = np.ndarray(array.shape, array.dtype, memory.data, 0, (self.pitch, *inner))
        MOVER.copy(goal, array)

    def command(self, block: HostBlock, block_offset: int = 0) -> UploadRows:
        x, y, z = self.origin
        return UploadRows(block, block_offset, self.pitch, self.target, (x, y), self.size, z)


@attrs.frozen(eq=False)
class Tiles:
    """Rows for a texture, in tiles as wide as the rows; of a row that is wider than the room, in pieces.

    No tile has texels of two slices.
    """

    array: NDArray[Any]  # (slices, rows, columns, ...), in blocks
    target: TextureMemory
    origin: Triple
    alignment: int  # of the pitch
    across: int  # columns of a tile, but the last
    down: int  # rows

    @classmethod
    def cut(
        cls,
        array: NDArray[Any],
        target: TextureMemory,
        origin: Triple,
        room: int,
        alignment: int = 1,
        whole: bool = False,
    ) -> Tiles:
        """Raises :class:`TooLarge` where not a block, or not a ``whole`` slice, fits in ``room`` bytes."""
        texel = target.format.block_bytes
        rows, columns = array.shape[1:3]
        row = columns * texel
        pitch = align_up(row, alignment)
        if whole and (rows - 1) * pitch + row > room:
            raise TooLarge(
                f"{target.format.name} is copied by whole levels, and {rows} rows of {pitch} bytes do not "
                f"fit in {format_bytes(room)} of staging memory; make a ring with a larger buffer_size"
            )
        if row <= room:
            return cls(array, target, origin, alignment, columns, min(rows, 1 + (room - row) // pitch))
        if texel > room:
            raise TooLarge(f"a texel of {texel} bytes does not fit in {format_bytes(room)} of staging memory")
        return cls(array, target, origin, alignment, room // texel, 1)

    def __len__(self) -> int:
        return len(self.array) * self._rows * self._columns

    @property
    def _rows(self) -> int:
        height: int = self.array.shape[1]
        return -(-height // self.down)

    @property
    def _columns(self) -> int:
        width: int = self.array.shape[2]
        return -(-width // self.across)

    def part(self, number: int) -> Tile:
        above, column = divmod(number, self._columns)
        slice, row = divmod(above, self._rows)
        blocks = self.array[slice, row * self.down :, column * self.across :][: self.down, : self.across]
        format, (x, y, z) = self.target.format, self.origin
        pitch = align_up(blocks.shape[1] * format.block_bytes, self.alignment)
        width, height = format.block
        x, y = x + column * self.across * width, y + row * self.down * height
        size = (
            min(blocks.shape[1] * width, self.target.width - x),  # the last block may reach beyond the level
            min(blocks.shape[0] * height, self.target.height - y),
        )
        return Tile(blocks, pitch, self.target, (x, y, z + slice), size)


def raw_items(array: NDArray[Any], room: int, alignment: int) -> NDArray[Any]:
    """Return an array of the same bytes in C order, made of items that are copied as they are.

    They are bytes where the array has no gaps, and where no aligned number of items fits in ``room``.
    No copy is made.
    """
    if array.flags.c_contiguous:
        return array.reshape(-1).view(np.uint8)
    if math.lcm(array.itemsize, alignment) > room:
        return array[..., None].view(np.uint8)
    raw: NDArray[Any] = array.view(_RAW.get(array.itemsize) or np.dtype(f"V{array.itemsize}"))
    return raw


def parts_of(array: NDArray[Any], start: int, stop: int) -> Iterator[NDArray[Any]]:
    """Yield the parts of ``array`` that hold the items ``start`` to ``stop`` in C order.

    Whole rows come at once, what is left of a row at either end by itself.
    """
    if array.ndim == 1:
        yield array[start:stop]
        return
    row = math.prod(array.shape[1:])
    while start < stop:
        index, inside = divmod(start, row)
        if inside or stop - start < row:
            count = min(row - inside, stop - start)
            yield from parts_of(array[index], inside, inside + count)
        else:
            count = (stop - start) // row * row
            yield array[index : index + count // row]
        start += count


def copy_run(goal: NDArray[Any], array: NDArray[Any], start: int, stop: int) -> None:
    """Copy the items ``start`` to ``stop`` of ``array`` in C order to ``goal``, which is 1-d."""
    for part in parts_of(array, start, stop):
        MOVER.copy(goal[: part.size].reshape(part.shape), part)
        goal = goal[part.size :]
