"""Kernels that are Python callables, and lists of closures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from forge3d_core.errors import ForeignObject, KernelError, OutOfRange, StateError, UsageError
from forge3d_core.protocols import KernelSource, Param
from stranger.given import several, whole
from stranger.memory import Buffer
from stranger.timeline import as_kernel_error


@attrs.frozen(eq=False)
class Kernel:
    source: KernelSource
    native: Callable[..., None]
    device: Any = attrs.field(repr=False)
    language: str = "host"


def compile_kernel(device: Any, source: KernelSource) -> Kernel:
    function = source.sources.get("host")
    if function is None:
        raise KernelError(
            f"kernel {source.name!r} has sources in {', '.join(source.sources) or 'no language'}; "
            "stranger speaks host"
        )
    code = getattr(function, "__code__", None)
    where = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
    if not callable(function):
        raise KernelError(f"kernel {source.name!r}: its host source is {function!r}, which is not callable")
    given = 1 + len(source.bindings) + len(source.params)
    try:
        inspect.signature(function).bind(*range(given))
    except TypeError as error:
        raise KernelError(
            f"kernel {source.name!r}{where} is called with {given} arguments: {error}"
        ) from None
    except ValueError:
        pass  # a builtin without a signature: the call will tell
    return Kernel(source, function, device)


class CommandList:
    def __init__(self, device: Any, label: str) -> None:
        self.device, self.label = device, label
        self.work: list[Callable[[], None]] = []
        self.reads: list[Buffer] = []
        self.writes: list[Buffer] = []
        self.submitted = False

    def __len__(self) -> int:
        return len(self.work)

    def copy(
        self,
        source: Any,
        target: Any,
        nbytes: int | None = None,
        *,
        source_offset: int = 0,
        target_offset: int = 0,
    ) -> CommandList:
        self._takes(source, target)
        source_offset, target_offset = whole(source_offset, "offset"), whole(target_offset, "offset")
        if nbytes is None:
            nbytes = min(source.nbytes - source_offset, target.nbytes - target_offset)
        nbytes = whole(nbytes, "nbytes")
        source.region(source_offset, nbytes)
        target.region(target_offset, nbytes)
        if source.store is target.store and abs(source_offset - target_offset) < nbytes:
            raise OutOfRange(f"a copy of {nbytes} bytes within one buffer overlaps itself")
        here, there = source.bytes(source_offset, nbytes), target.bytes(target_offset, nbytes)
        return self._record(lambda: np.copyto(there, here), [source], [target])

    def fill(self, target: Any, value: int = 0, *, offset: int = 0, nbytes: int | None = None) -> CommandList:
        self._takes(target)
        value, offset = whole(value, "a fill value"), whole(offset, "offset")
        if not 0 <= value <= 255:
            raise UsageError(f"a fill value is 0 to 255, not {value!r}")
        nbytes = target.nbytes - offset if nbytes is None else whole(nbytes, "nbytes")
        target.region(offset, nbytes)
        there = target.bytes(offset, nbytes)
        return self._record(lambda: there.fill(value), [], [target])

    def dispatch(
        self,
        kernel: Any,
        buffers: Sequence[Any],
        params: Sequence[float] = (),
        *,
        threads: int | tuple[int, ...],
    ) -> CommandList:
        self._takes(*buffers)
        if not isinstance(kernel, Kernel) or kernel.device is not self.device:
            raise ForeignObject(f"{kernel!r} is not a kernel of this device")
        source = kernel.source
        if len(buffers) != len(source.bindings) or len(params) != len(source.params):
            raise KernelError(
                f"kernel {source.name!r} takes {len(source.bindings)} buffer(s) and {len(source.params)} "
                f"parameter(s), not {len(buffers)} and {len(params)}"
            )
        scalars = [_scalar(source.name, p, v) for p, v in zip(source.params, params, strict=True)]
        extent = several(threads, "threads")
        if not 1 <= len(extent) <= 3 or min(extent) < 1:
            raise UsageError(f"threads is an int or up to three, each from 1, not {threads!r}")
        groups = [-(-n // g) for n, g in zip((*extent, 1, 1), source.workgroup, strict=False)]
        if any(n > most for n, most in zip(groups, self.device.limits.max_groups, strict=True)):
            raise UsageError(f"{threads!r} threads are {groups} workgroups, too many at once")
        arrays = []
        for binding, buffer in zip(source.bindings, buffers, strict=True):
            whole = buffer.nbytes // np.dtype(binding.dtype).itemsize * np.dtype(binding.dtype).itemsize
            array = buffer.bytes(0, whole).view(binding.dtype)
            array.flags.writeable = binding.access != "read"
            arrays.append(array)

        def run() -> None:
            try:
                kernel.native((*extent, 1, 1)[:3], *arrays, *scalars)
            except Exception as error:
                raise as_kernel_error(error, f"kernel {source.name!r}") from error

        access = list(zip(source.bindings, buffers, strict=True))
        return self._record(
            run,
            [buffer for binding, buffer in access if binding.access == "read"],
            [buffer for binding, buffer in access if binding.access != "read"],
        )

    def _record(self, work: Callable[[], None], reads: list[Any], writes: list[Any]) -> CommandList:
        self.work.append(work)
        self.reads += reads
        self.writes += writes
        return self

    def _takes(self, *buffers: Any) -> None:
        self.device.check()
        if self.submitted:
            raise StateError("this list was submitted; record a new one")
        for buffer in buffers:
            if not isinstance(buffer, Buffer):
                raise ForeignObject(f"{buffer!r} is not a buffer of this device")
            buffer.check(self.device)


def _scalar(kernel: str, param: Param, value: Any) -> int | float:
    if isinstance(value, int | float | np.number):
        if param.dtype == "f4":
            return float(value)
        bounds = np.iinfo(param.dtype)
        if value == int(value) and bounds.min <= value <= bounds.max:
            return int(value)
    raise KernelError(f"parameter {param.name!r} of kernel {kernel!r} is a {param.dtype}, {value!r} is not")
