"""What a read covers, and the array that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

from forge3d_core.errors import UsageError
from stranger.lent import plain
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
    wanted = (shape,) if isinstance(shape, int) else shape
    if wanted is not None and (not isinstance(wanted, tuple) or any(n < 0 for n in wanted)):
        raise UsageError(f"{shape!r} is not a shape")
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
        item = plain(dtype if dtype is not None else source.format.dtype or np.uint8)
        if source.format.block_bytes % item.itemsize:
            raise UsageError(f"a texel of {source.format.name} is not a whole number of {item}")
        channels = source.format.block_bytes // item.itemsize
        natural = (size[1], size[0]) if channels == 1 else (size[1], size[0], channels)
        if wanted is not None and wanted != natural:
            raise UsageError(f"this read has the shape {natural}, not {wanted}")
        wanted, nbytes = natural, size[0] * size[1] * source.format.block_bytes
        here = source.texels(origin, size)
    if item.itemsize * int(np.prod(wanted, dtype=np.int64)) != nbytes:
        raise UsageError(f"{nbytes} bytes are not {item} of shape {wanted}")
    if out is not None:
        if not isinstance(out, np.ndarray):
            raise UsageError(f"out is a numpy array, not {type(out).__name__}")
        plain(out.dtype)
        if not (out.flags.c_contiguous and out.flags.writeable) or out.nbytes != nbytes:
            raise UsageError(f"out must be writable, C-contiguous and of {nbytes} bytes")
    there = here.shape

    def copy(block: Any) -> None:
        np.copyto(block[: here.nbytes].reshape(there), here)

    return Region(source, item, wanted, nbytes, copy, out)
