"""What a read covers, and the array that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from forge3d_core.errors import UsageError
from stranger.given import plain, several, texel_of, two, whole
from stranger.memory import Buffer, Memory


@attrs.frozen(eq=False)
class Region:
    """What is read, and the array that it becomes."""

    source: Memory
    dtype: Any
    shape: tuple[int, ...]
    nbytes: int
    copy: Callable[[Any], None]  # to the first nbytes of a block
    out: Any

    def array(self) -> Any:
        return np.empty(self.shape, self.dtype) if self.out is None else self.out


def region_of(
    source: Any,
    offset: int = 0,
    nbytes: int | None = None,
    dtype: Any = None,
    shape: int | tuple[int, ...] | None = None,
    origin: tuple[int, int] = (0, 0),
    size: tuple[int, int] | None = None,
    out: Any = None,
) -> Region:
    wanted = None if shape is None else several(shape, "shape")
    if wanted is not None and any(n < 0 for n in wanted):
        raise UsageError(f"{shape!r} is not a shape")
    offset, origin = whole(offset, "offset"), two(origin, "origin")
    nbytes = None if nbytes is None else whole(nbytes, "nbytes")
    size = None if size is None else two(size, "size")
    if isinstance(source, Buffer):
        if tuple(origin) != (0, 0) or size is not None:
            raise UsageError("origin and size are for textures")
        item = plain(np.uint8 if dtype is None else dtype)
        if nbytes is None:
            full = max(0, source.nbytes - offset)
            nbytes = full if wanted is None else item.itemsize * int(np.prod(wanted, dtype=np.int64))
        source.region(offset, nbytes)
        if nbytes % item.itemsize:
            raise UsageError(f"{nbytes} bytes are not a whole number of {item}")
        wanted = (nbytes // item.itemsize,) if wanted is None else wanted
        here = source.bytes(offset, nbytes)
    else:
        if offset or nbytes is not None:
            raise UsageError("offset and nbytes are for buffers")
        size = (source.width - origin[0], source.height - origin[1]) if size is None else size
        source.region(origin, size)
        item, texel = texel_of(source.format)
        if dtype is not None and plain(dtype) != item:
            raise UsageError(f"a texture of {source.format.name} is read as {item}, not {dtype}")
        natural = (size[1], size[0], *texel)
        if wanted is not None and wanted != natural:
            raise UsageError(f"this read has the shape {natural}, not {wanted}")
        wanted, nbytes = natural, size[0] * size[1] * source.format.block_bytes
        here = source.texels(origin, size)
    if item.itemsize * int(np.prod(wanted, dtype=np.int64)) != nbytes:
        raise UsageError(f"{nbytes} bytes are not {item} of shape {wanted}")
    if out is not None:
        if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
            raise UsageError(f"out is a numpy array, not {type(out).__name__}")
        if plain(out.dtype) != item and (dtype is not None or not isinstance(source, Buffer)):
            raise UsageError(f"this read is {item}, and out is {out.dtype}")
        if not (out.flags.c_contiguous and out.flags.writeable) or out.nbytes != nbytes:
            raise UsageError(f"out must be writable, C-contiguous and of {nbytes} bytes")
    there = here.shape

    def copy(block: Any) -> None:
        np.copyto(block[: here.nbytes].reshape(there), here)

    return Region(source, item, wanted, nbytes, copy, out)
