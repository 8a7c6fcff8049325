"""What a read covers: a run of a buffer or a rectangle of a texture, and the array it becomes."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.ma import MaskedArray
from numpy.typing import NDArray

from forge3d_core import protocols
from forge3d_core.arguments import extents, integer, pair, shown
from forge3d_core.driver import Command, Download, DownloadRows, HostBlock
from forge3d_core.dtypes import byte_dtype
from forge3d_core.errors import ForeignObject, UsageError, WrongType
from forge3d_core.foreign import view_of
from forge3d_core.formats import texel_dtype
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.resources import BufferMemory, DeviceBuffer, DeviceTexture, TextureMemory
from forge3d_core.memory.views import Loan
from forge3d_core.protocols import Limits
from forge3d_core.units import align_up


@attrs.frozen(eq=False)
class Region:
    """A checked read: where from, how it lies in the block, and the array it becomes."""

    allocation: Allocation
    memory: BufferMemory | TextureMemory
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int  # of the array
    block_offset: int  # where the bytes start in the block
    block_bytes: int  # how much of the block the read needs, alignment included
    offset: int = 0
    origin: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)
    row_pitch: int | None = None
    out: NDArray[Any] | None = None

    @classmethod
    def of(
        cls,
        owner: object,
        limits: Limits,
        source: protocols.Buffer | protocols.Texture,
        offset: int,
        nbytes: int | None,
        dtype: Any,
        shape: int | tuple[int, ...] | None,
        origin: tuple[int, int],
        size: tuple[int, int] | None,
    ) -> Region:
        """Check a read and return its region; raises as :meth:`ReadbackPool.read` does."""
        if isinstance(source, DeviceBuffer):
            source.check(owner)
            if size is not None or pair("origin", origin) != (0, 0):
                raise UsageError("origin= and size= are for textures; a buffer takes offset= and nbytes=")
            return cls._of_buffer(limits, source, offset, nbytes, dtype, shape)
        if isinstance(source, DeviceTexture):
            source.check(owner)
            if nbytes is not None or integer("offset", offset):
                raise UsageError("offset= and nbytes= are for buffers; a texture takes origin= and size=")
            return cls._of_texture(limits, source, dtype, shape, origin, size)
        raise ForeignObject(f"{source!r} is not memory of this device; adopt() wraps native memory")

    @classmethod
    def _of_buffer(
        cls,
        limits: Limits,
        source: DeviceBuffer,
        offset: int,
        nbytes: int | None,
        dtype: Any,
        shape: int | tuple[int, ...] | None,
    ) -> Region:
        item = byte_dtype(np.uint8 if dtype is None else dtype)
        wanted = None if shape is None else extents("shape", shape)
        offset = integer("offset", offset)
        if wanted is not None and nbytes is None:
            nbytes = item.itemsize * math.prod(wanted)
        if nbytes is None:
            nbytes = max(0, source.nbytes - offset)
        nbytes = integer("nbytes", nbytes)
        source.region(offset, nbytes)
        if nbytes % item.itemsize:
            raise UsageError(f"{nbytes} bytes are not a whole number of {item}, {item.itemsize} bytes each")
        if wanted is None:
            wanted = (nbytes // item.itemsize,)
        elif item.itemsize * math.prod(wanted) != nbytes:
            raise UsageError(f"{nbytes} bytes are not {item} of shape {shown(wanted)}")
        lead = offset % limits.copy_alignment
        return cls(
            source.allocation,
            source.memory,
            item,
            wanted,
            nbytes,
            block_offset=lead,
            block_bytes=align_up(lead + nbytes, max(4, limits.copy_alignment)),
            offset=offset,
        )

    @classmethod
    def _of_texture(
        cls,
        limits: Limits,
        source: DeviceTexture,
        dtype: Any,
        shape: int | tuple[int, ...] | None,
        origin: tuple[int, int],
        size: tuple[int, int] | None,
    ) -> Region:
        origin, size = source.rectangle(origin, size)
        (width, height), format = size, source.format
        row = width * format.block_bytes
        item, channels = texel_dtype(format)
        if dtype is not None and byte_dtype(dtype) != item:
            raise UsageError(
                f"texels of {format.name} are {item.name}, not {np.dtype(dtype)}; leave dtype= out, and take "
                "what comes for something else with .view or .astype"
            )
        natural = (height, width) if channels == 1 else (height, width, channels)
        if shape is not None and extents("shape", shape) != natural:
            raise UsageError(f"a read of {width}x{height} texels of {format.name} as {item} is {natural}")
        pitch = align_up(row, limits.row_pitch_alignment)
        return cls(
            source.allocation,
            source.memory,
            item,
            natural,
            row * height,
            block_offset=0,
            block_bytes=pitch * height,
            origin=origin,
            size=size,
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
        if not (out.flags.c_contiguous and out.flags.writeable) or out.nbytes != self.nbytes:
            raise UsageError(
                f"out must be a writable, C-contiguous array of exactly {self.nbytes} bytes; this one has "
                f"{out.nbytes} (contiguous: {out.flags.c_contiguous}, writable: {out.flags.writeable})"
            )
        return attrs.evolve(self, out=out)

    def command(self, block: HostBlock) -> Command:
        """Return the copy into ``block``."""
        if isinstance(self.memory, TextureMemory):
            assert self.row_pitch is not None
            return DownloadRows(self.memory, self.origin, self.size, block, self.block_offset, self.row_pitch)
        return Download(self.memory, self.offset, block, self.block_offset, self.nbytes)

    def bytes_in(self, block: HostBlock) -> NDArray[np.uint8]:
        """Return the run of the block that holds the read, padding between rows included."""
        end = self.block_offset + self.nbytes
        if self.row_pitch is not None:
            end = self.block_offset + (self.size[1] - 1) * self.row_pitch + self.nbytes // self.size[1]
        return view_of(block)[self.block_offset : end]

    def lend(self, loan: Loan) -> NDArray[Any]:
        """Return the array over a loan of :meth:`bytes_in`."""
        return loan.array(self.dtype, self.shape, self.row_pitch)

    def rows(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return :meth:`bytes_in` as rows of bytes without their padding (one row for a buffer)."""
        if self.row_pitch is None:
            return data
        height = self.size[1]
        return np.ndarray((height, self.nbytes // height), np.uint8, data.data, strides=(self.row_pitch, 1))

    def result(self) -> NDArray[Any]:
        """Return the array to land in: the caller's, or a new one."""
        return np.empty(self.shape, self.dtype) if self.out is None else self.out
