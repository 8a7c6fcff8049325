"""What a dispatch is given: parameters and threads, as every backend will see them."""

from __future__ import annotations

import math
import struct
from collections.abc import Container, Sequence
from operator import index
from typing import Any

import numpy as np

from forge3d_core import arguments
from forge3d_core.arguments import shown
from forge3d_core.device.kernels import RANGES, CompiledKernel
from forge3d_core.errors import KernelError, UsageError
from forge3d_core.memory.allocation import Allocation
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.protocols import KernelSource, Param

WANTED = {
    "u4": "a u4, a whole number from 0 to 2**32 - 1",
    "i4": "an i4, a whole number from -2**31 to 2**31 - 1",
    "f4": "an f4, a number of at most 3.4e38 or an explicit inf or nan",
}
F4 = struct.Struct("<f")
MAX_F4 = float(np.finfo(np.float32).max)


def scalar(kernel: str, param: Param, value: Any) -> int | float:
    """Return a parameter as every backend will see it; a bool counts as 0 or 1.

    Raises :class:`KernelError`.
    """
    if isinstance(value, (float, int, np.integer, np.floating, np.bool_)) or _scalar_array(value):
        number = _nearest_f4(value) if param.dtype == "f4" else _whole(value)
        if number is not None and (param.dtype == "f4" or number in RANGES[param.dtype]):
            return number
    raise KernelError(
        f"parameter {param.name!r} of kernel {kernel!r} is {WANTED[param.dtype]}, not {shown(value)}"
    )


def _nearest_f4(value: Any) -> float | None:
    """Return the nearest f4; None for a number that has none, so that no backend makes it infinite."""
    try:
        (nearest,) = F4.unpack(F4.pack(value))
    except (OverflowError, struct.error):
        return None
    return None if math.isinf(nearest) and not np.isinf(value) else float(nearest)


def thread_counts(kernel: CompiledKernel, threads: int | tuple[int, ...]) -> tuple[int, int, int]:
    """Return the threads in x, y and z. Raises :class:`UsageError`."""
    counts = arguments.threads("threads", threads)
    if any(n > most for n, most in zip(counts, kernel.max_threads, strict=True)):
        source = kernel.source
        groups = [-(-n // size) for n, size in zip(counts, source.workgroup, strict=True)]
        allowed = [most // size for most, size in zip(kernel.max_threads, source.workgroup, strict=True)]
        raise UsageError(
            f"{shown(threads)} threads of kernel {source.name!r} are {shown(groups)} workgroups of "
            f"{source.workgroup}; this device runs at most {allowed} at once: "
            "use larger workgroups or several dispatches"
        )
    return counts


def check_floats(
    source: KernelSource, buffers: Sequence[DeviceBuffer], written: Container[Allocation]
) -> None:
    """Refuse floats of one size, as they were uploaded, for a kernel that reads floats of another.

    ``written`` holds what the list writes before. Raises :class:`KernelError`.
    """
    for binding, buffer in zip(source.bindings, buffers, strict=True):
        allocation = buffer.allocation
        if allocation.uploaded is None or binding.access == "write" or allocation in written:
            continue
        point, dtype = allocation.uploaded
        wanted = np.dtype(binding.dtype)
        if wanted.kind == "f" and wanted != dtype and allocation.write == point:
            raise KernelError(
                f"kernel {source.name!r} reads {binding.name!r} as {wanted.name}, and what was uploaded "
                f"there is {dtype}; upload data.astype({wanted.name!r}), or data.view('u1') if its bytes are "
                f"{wanted.name}"
            )


def _scalar_array(value: object) -> bool:
    return type(value) is np.ndarray and value.ndim == 0 and value.dtype.kind in "biuf"


def _whole(value: Any) -> int | None:
    try:
        return index(value)
    except TypeError:
        number = float(value)
        return int(number) if number.is_integer() else None
