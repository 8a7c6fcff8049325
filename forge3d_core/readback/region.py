"""What a read covers: a run of a buffer or a rectangle of a texture, and the array it becomes."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.ma import MaskedArray
from numpy.typing import NDArray

from forge3d_core.arguments import extents, integer, pair, shown
from forge3d_core.driver import Command, Download, DownloadRows, HostBlock
from forge3d_core.dtypes import byte_dtype
from forge3d_core.errors import ForeignObject, UsageError, WrongType
from forge3d_core.formats import block_rows, row_bytes, texel_dtype
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.resources import BufferMemory, DeviceBuffer
from forge3d_core.memory.textures import DeviceTexture, TextureMemory, Triple
from forge3d_core.memory.views import Loan
from forge3d_core.protocols import Limits, ReadRequest
from forge3d_core.protocols.readback import ORIGIN
from forge3d_core.units import align_up

UINT8 = np.dtype(np.uint8)

_PLAIN = {
    key: item
    for kind in set(np.sctypeDict.values())
    if (item := np.dtype(kind)).itemsize and not item.hasobject
    for key in (kind, item.name, item.str, item.str[1:])
}
"""Dtypes by type and by name, so that the common ones cost one look."""


@attrs.define(eq=False)
class Region:
    """A checked read: where from, how it lies in its part of a block, and the array it becomes.

    A value, which nothing changes; not frozen, as its many fields would cost three times as much to set.
    """

    allocation: Allocation
    memory: BufferMemory | TextureMemory
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int  # of the array
    lead: int  # where the bytes start in the part
    block_bytes: int  # of the part, alignment included
    offset: int = 0
    origin: Triple = (0, 0, 0)
    size: Triple = (0, 0, 0)
    rows: int = 0  # of blocks, in each slice
    row_pitch: int | None = None
    row_axes: int = 1  # that step over whole rows: slices and rows
    whole: bool = False  # each slice in one copy
    out: NDArray[Any] | None = None
    strided: bool = False  # ``out`` has gaps, or another order than C's
    direct: tuple[Allocation, int] | None = None  # the memory of ``out`` that the device copies to itself

    @classmethod
    def of(cls, owner: object, limits: Limits, request: ReadRequest) -> Region:
        """Check a read and return its region; raises as :meth:`ReadbackPool.read` does."""
        source = request.source
        if isinstance(source, DeviceBuffer):
            source.check(owner)
            if request.size is not None or (
                request.origin is not ORIGIN and pair("origin", request.origin) != ORIGIN
            ):
                raise UsageError("origin= and size= are for textures; a buffer takes offset= and nbytes=")
            region = cls._of_buffer(limits, source, request)
        elif isinstance(source, DeviceTexture):
            source.check(owner)
            if request.nbytes is not None or integer("offset", request.offset):
                raise UsageError("offset= and nbytes= are for buffers; a texture takes origin= and size=")
            region = cls._of_texture(limits, source, request)
        else:
            raise ForeignObject(f"{source!r} is not memory of this device; adopt() wraps native memory")
        return region if request.out is None else region.into(request.out, typed=request.dtype is not None)

    @classmethod
    def _of_buffer(cls, limits: Limits, source: DeviceBuffer, request: ReadRequest) -> Region:
        item = UINT8 if request.dtype is None else _dtype(request.dtype)
        itemsize = item.itemsize
        wanted = None if request.shape is None else extents("shape", request.shape)
        offset = request.offset if type(request.offset) is int else integer("offset", request.offset)
        if request.nbytes is not None:
            nbytes = integer("nbytes", request.nbytes)
        elif wanted is not None:
            nbytes = itemsize * math.prod(wanted)
        else:
            nbytes = max(0, source.nbytes - offset)
        if not 0 <= offset <= offset + nbytes <= source.nbytes:
            source.region(offset, nbytes)
        if nbytes % itemsize:
            raise UsageError(f"{nbytes} bytes are not a whole number of {item}, {itemsize} bytes each")
        if wanted is None:
            wanted = (nbytes // itemsize,)
        elif itemsize * math.prod(wanted) != nbytes:
            raise UsageError(f"{nbytes} bytes are not {item} of shape {shown(wanted)}")
        alignment = limits.copy_alignment
        lead, step = offset % alignment, max(4, alignment)
        return cls(
            source.allocation,
            source.memory,
            item,
            wanted,
            nbytes,
            lead,
            -(-(lead + nbytes) // step) * step,
            offset,
        )

    @classmethod
    def _of_texture(cls, limits: Limits, source: DeviceTexture, request: ReadRequest) -> Region:
        origin, size = source.box(request.origin, request.size)
        (width, height, slices), format = size, source.format
        row, rows = row_bytes(width, format), block_rows(height, format)
        if row * rows * slices:
            source.readable(origin, size)
        item, channels = texel_dtype(format)
        dtype, shape = request.dtype, request.shape
        if dtype is not None and byte_dtype(dtype) != item:
            raise UsageError(
                f"texels of {format.name} are {item.name}, not {np.dtype(dtype)}; leave dtype= out, and take "
                "what comes for something else with .view or .astype"
            )
        natural: tuple[int, ...] = (rows, row // format.block_bytes)
        if channels > 1 or format.block != (1, 1):
            natural = (*natural, channels)
        if source.memory.sliced:
            natural = (slices, *natural)
        if shape is not None and extents("shape", shape) != natural:
            raise UsageError(f"a read of {width}x{height} texels of {format.name} as {item} is {natural}")
        pitch = align_up(row, limits.row_pitch_alignment)
        return cls(
            source.allocation,
            source.memory,
            item,
            natural,
            row * rows * slices,
            0,
            pitch * rows * slices,
            origin=origin,
            size=size,
            rows=rows,
            row_axes=2 if source.memory.sliced else 1,
            whole=source.whole_copies,
            row_pitch=pitch,
        )

    def into(self, out: NDArray[Any] | None, *, typed: bool) -> Region:
        """Return the region with the caller's array as its goal; ``typed``: it must have the dtype."""
        if out is None:
            return self
        if not isinstance(out, np.ndarray) or isinstance(out, MaskedArray):
            raise WrongType(f"out is a plain numpy array, not a {type(out).__name__}")
        if byte_dtype(out.dtype) != self.dtype and (typed or self.row_pitch is not None):
            raise UsageError(
                f"what is read is {self.dtype}, and out is {out.dtype}; give an array of {self.dtype}, or a "
                ".view of yours"
            )
        if not out.flags.writeable or out.nbytes != self.nbytes:
            raise UsageError(
                f"out must be a writable array of exactly {self.nbytes} bytes; this one has {out.nbytes} "
                f"(writable: {out.flags.writeable})"
            )
        if out.flags.c_contiguous:
            return attrs.evolve(self, out=out)
        if self.row_pitch is not None and out.shape != self.shape:
            raise UsageError(
                f"out has gaps between its items, so it must have the shape of what is read, {self.shape}, "
                f"not {out.shape}"
            )
        if overlaps(out):
            raise UsageError(
                f"items of out share memory (shape {out.shape}, strides {out.strides}), so it cannot hold "
                "what is read; give an array in which each item has bytes of its own"
            )
        return attrs.evolve(self, out=out, strided=True)

    def aimed(self, found: tuple[Allocation, int] | None, limits: Limits) -> Region:
        """Return the region with the device copying to ``out`` itself, if that is in its memory, as found.

        As it is where the device would write bytes beside it, or rows at another pitch.
        """
        if found is None:
            return self
        start, unit = found[1], limits.copy_alignment
        if self.row_pitch is not None:
            fits = (
                self.row_pitch * self.rows * self.size[2] == self.nbytes
                and start % limits.staging_alignment == 0
            )
        else:
            fits = not (self.offset % unit or start % unit or self.nbytes % unit)
        return attrs.evolve(self, direct=found, block_bytes=max(4, unit)) if fits else self

    def command(self, block: HostBlock, place: int) -> Command:
        """Return the copy into the part of ``block`` that begins at ``place``."""
        memory = self.memory
        if self.direct is not None:
            block, place = self.direct[0].native, self.direct[1]
        if self.row_pitch is None:
            return Download(memory, self.offset, block, place + self.lead, self.nbytes)
        assert isinstance(memory, TextureMemory)
        (x, y, z), (width, height, slices) = self.origin, self.size
        return DownloadRows(memory, (x, y), (width, height), block, place, self.row_pitch, z, slices)

    def cut(self, most: int, limits: Limits) -> list[int]:
        """Return where pieces of up to about ``most`` bytes end: bytes, rows of one slice, or whole slices.

        In the block each piece begins where the driver wants a copy to begin.
        """
        if self.row_pitch is None:
            step = align_up(most, max(limits.copy_alignment, 1))
            return [*range(step - self.lead, self.nbytes, step), self.nbytes]
        slices, rows = self.size[2], self.rows * self.size[2]
        unit = 1 if slices == 1 else self.rows  # rows, as pieces are counted in
        aligned = unit * limits.staging_alignment // math.gcd(unit * self.row_pitch, limits.staging_alignment)
        step = rows if self.whole and slices == 1 else align_up(max(1, most // self.row_pitch), aligned)
        return [*range(step, rows, step), rows]

    def piece(self, block: HostBlock, place: int, start: int, stop: int) -> Command:
        """Return the copy of one of those pieces into the read's part of ``block``."""
        memory = self.memory
        if self.row_pitch is None:
            return Download(memory, self.offset + start, block, place + self.lead + start, stop - start)
        assert isinstance(memory, TextureMemory)
        (x, y, z), (width, height, slices), pitch = self.origin, self.size, self.row_pitch
        place += start * pitch
        if slices > 1:
            first, count = start // self.rows, (stop - start) // self.rows
            return DownloadRows(memory, (x, y), (width, height), block, place, pitch, z + first, count)
        down = memory.format.block[1]  # texels, of which the last row of blocks may have fewer
        top, bottom = start * down, min(stop * down, height)
        return DownloadRows(memory, (x, y + top), (width, bottom - top), block, place, pitch, z)

    def bytes_in(self, view: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
        """Return the run of a block's bytes that holds the read, padding between rows included."""
        start = place + self.lead
        if self.row_pitch is None:
            return view[start : start + self.nbytes]
        rows = self.rows * self.size[2]
        return view[start : start + (rows - 1) * self.row_pitch + self.nbytes // rows]

    def lend(self, loan: Loan) -> NDArray[Any]:
        """Return the array over a loan of :meth:`bytes_in`."""
        return loan.array(self.dtype, self.shape, self.row_pitch, self.row_axes)


def overlaps(array: NDArray[Any]) -> bool:
    """Whether items of an array may share bytes: no axis steps over all that the smaller ones cover."""
    covered = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True)):
        if length > 1:
            if stride < covered:
                return True
            covered = stride * (length - 1) + covered
    return False


def _dtype(dtype: Any) -> np.dtype[Any]:
    """Return :func:`byte_dtype`, of the common ones without a call."""
    known = _PLAIN.get(dtype) if isinstance(dtype, (str, type)) else None
    return byte_dtype(dtype) if known is None else known
