"""The command list: work recorded and checked on any thread, submitted once."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from operator import index
from typing import Any, Protocol

import attrs
import numpy as np

from forge3d_core import arguments, protocols
from forge3d_core.arguments import integer, sequence, shown
from forge3d_core.device.kernels import CompiledKernel
from forge3d_core.driver import Command, Copy, Dispatch, Fill, PreparedCommands
from forge3d_core.errors import ForeignObject, KernelError, OutOfRange, StateError, UsageError
from forge3d_core.memory.allocator import Allocation
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.presentation import counted, line, named, presents
from forge3d_core.protocols import Binding, KernelSource, Limits, Param

RANGES = {"u4": range(1 << 32), "i4": range(-(1 << 31), 1 << 31)}
WANTED = {
    "u4": "a u4, a whole number from 0 to 2**32 - 1",
    "i4": "an i4, a whole number from -2**31 to 2**31 - 1",
    "f4": "an f4, a number of at most 3.4e38 or an explicit inf or nan",
}


class Owner(Protocol):
    """The device that a list is recorded for; ``check`` raises where it can take no work any more."""

    def check(self) -> None: ...


@presents(protocols.CommandList)
@attrs.define(eq=False)
class RecordedCommands:
    """See :class:`forge3d_core.protocols.CommandList`."""

    owner: Owner
    limits: Limits
    label: str = ""
    reusable: bool = False
    commands: PreparedCommands = attrs.field(factory=PreparedCommands, init=False)
    reads: dict[Allocation, None] = attrs.field(factory=dict, init=False)
    writes: dict[Allocation, None] = attrs.field(factory=dict, init=False)
    named: dict[DeviceBuffer, None] = attrs.field(factory=dict, init=False)
    _submitted: bool = attrs.field(default=False, init=False)

    def __len__(self) -> int:
        return len(self.commands)

    def __repr__(self) -> str:
        state = "submitted" if self._submitted else "open"
        return line(f"{named('command list', self.label)}: {counted(len(self.commands), 'command')}", state)

    def copy(
        self,
        source: protocols.Buffer,
        target: protocols.Buffer,
        nbytes: int | None = None,
        *,
        source_offset: int = 0,
        target_offset: int = 0,
    ) -> RecordedCommands:
        origin, goal = self._buffer(source), self._buffer(target)
        source_offset = integer("source_offset", source_offset)
        target_offset = integer("target_offset", target_offset)
        if nbytes is None:
            nbytes = min(origin.nbytes - source_offset, goal.nbytes - target_offset)
        nbytes = integer("nbytes", nbytes)
        origin.region(source_offset, nbytes)
        goal.region(target_offset, nbytes)
        if origin.allocation is goal.allocation and abs(source_offset - target_offset) < nbytes:
            raise OutOfRange(
                f"a copy of {nbytes} bytes from {source_offset} to {target_offset} of one buffer overlaps "
                "itself; copy through another buffer"
            )
        if nbytes:
            command = Copy(origin.memory, source_offset, goal.memory, target_offset, nbytes)
            self._record(command, (origin,), (goal,))
        return self

    def fill(
        self, target: protocols.Buffer, value: int = 0, *, offset: int = 0, nbytes: int | None = None
    ) -> RecordedCommands:
        goal = self._buffer(target)
        value, offset = integer("a fill value", value), integer("offset", offset)
        if not 0 <= value <= 255:
            raise UsageError(f"a fill value is a byte, 0 to 255, not {shown(value)}")
        nbytes = goal.nbytes - offset if nbytes is None else integer("nbytes", nbytes)
        goal.region(offset, nbytes)
        if nbytes:
            self._record(Fill(goal.memory, offset, nbytes, value), (), (goal,))
        return self

    def dispatch(
        self,
        kernel: protocols.Kernel,
        buffers: Sequence[protocols.Buffer],
        params: Sequence[float] = (),
        *,
        threads: int | tuple[int, ...],
    ) -> RecordedCommands:
        if not isinstance(kernel, CompiledKernel) or kernel.owner is not self.owner:
            raise ForeignObject(f"{shown(kernel)} was not made by this device's create_kernel")
        source = kernel.source
        bound = tuple(self._buffer(buffer) for buffer in sequence("buffers", buffers))
        params = sequence("params", params)
        if len(bound) != len(source.bindings) or len(params) != len(source.params):
            raise KernelError(
                f"kernel {source.name!r} takes {len(source.bindings)} buffer(s) "
                f"({', '.join(b.name for b in source.bindings)}) and {len(source.params)} parameter(s) "
                f"({', '.join(p.name for p in source.params)}); "
                f"given were {len(bound)} and {len(params)}"
            )
        values = tuple(_scalar(source.name, p, v) for p, v in zip(source.params, params, strict=True))
        extent = self._threads(source, threads)
        access = list(zip(source.bindings, bound, strict=True))
        for binding, buffer in access:
            if buffer.allocation.uploaded is not None and binding.access != "write":
                self._check_floats(source, binding, buffer.allocation)
        self._record(
            Dispatch(kernel, tuple(b.memory for b in bound), values, extent),
            tuple(buffer for binding, buffer in access if binding.access == "read"),
            tuple(buffer for binding, buffer in access if binding.access != "read"),
        )
        return self

    def take(self) -> list[Command]:
        """Hand the commands over for their one submission."""
        if not self.reusable:
            self._open()
        for buffer in self.named:
            buffer.check()
        self._submitted = True
        return self.commands if self.reusable else list(self.commands)

    def give_back(self) -> None:
        """Undo :meth:`take` after a submission that failed: the list may be submitted again."""
        self._submitted = False

    def _open(self) -> None:
        self.owner.check()
        if self._submitted:
            raise StateError(
                "this command list was submitted, and what it runs stays as it is; record a new one"
                if self.reusable
                else "this command list was submitted; a list is submitted once: record a new one, or "
                "ask for command_list(reusable=True)"
            )

    def _buffer(self, buffer: protocols.Buffer) -> DeviceBuffer:
        self._open()
        if not isinstance(buffer, DeviceBuffer):
            raise ForeignObject(
                f"{shown(buffer)} is not a buffer of this device; upload() brings arrays to one, and adopt() "
                "wraps native memory"
            )
        buffer.check(self.owner)
        return buffer

    def _threads(self, source: KernelSource, threads: int | tuple[int, ...]) -> tuple[int, int, int]:
        x, y, z = arguments.threads("threads", threads)
        groups = [-(-n // size) for n, size in zip((x, y, z), source.workgroup, strict=True)]
        if any(n > most for n, most in zip(groups, self.limits.max_groups, strict=True)):
            raise UsageError(
                f"{shown(threads)} threads of kernel {source.name!r} are {shown(groups)} workgroups of "
                f"{source.workgroup}; this device runs at most {list(self.limits.max_groups)} at once: "
                "use larger workgroups or several dispatches"
            )
        return x, y, z

    def _check_floats(self, source: KernelSource, binding: Binding, allocation: Allocation) -> None:
        """Refuse floats of one size, as they were uploaded, for a kernel that reads floats of another."""
        assert allocation.uploaded is not None
        point, dtype = allocation.uploaded
        wanted = np.dtype(binding.dtype)
        if wanted.kind != "f" or wanted == dtype or allocation.write != point or allocation in self.writes:
            return
        raise KernelError(
            f"kernel {source.name!r} reads {binding.name!r} as {wanted.name}, and what was uploaded there is "
            f"{dtype}; upload data.astype({wanted.name!r}), or data.view('u1') if its bytes are {wanted.name}"
        )

    def _record(
        self, command: Command, reads: Sequence[DeviceBuffer], writes: Sequence[DeviceBuffer]
    ) -> None:
        self.commands.append(command)
        self.reads.update((buffer.allocation, None) for buffer in reads)
        self.writes.update((buffer.allocation, None) for buffer in writes)
        self.named.update((buffer, None) for buffer in (*reads, *writes))


def _scalar(kernel: str, param: Param, value: Any) -> int | float:
    """Return a parameter as every backend will see it; a bool counts as 0 or 1."""
    if isinstance(value, (int, float, np.integer, np.floating, np.bool_)) or _scalar_array(value):
        number = _float(value) if param.dtype == "f4" else _whole(value)
        if number is not None and (param.dtype == "f4" or number in RANGES[param.dtype]):
            return number
    raise KernelError(
        f"parameter {param.name!r} of kernel {kernel!r} is {WANTED[param.dtype]}, not {shown(value)}"
    )


def _scalar_array(value: object) -> bool:
    return type(value) is np.ndarray and value.ndim == 0 and value.dtype.kind in "biuf"


def _float(value: Any) -> float | None:
    """Return the nearest f4; None for a number that has none, so that no backend makes it infinite."""
    try:
        (nearest,) = struct.unpack("<f", struct.pack("<f", value))
    except (OverflowError, struct.error):
        return None
    return None if math.isinf(nearest) and not np.isinf(value) else float(nearest)


def _whole(value: Any) -> int | None:
    try:
        return index(value)
    except TypeError:
        number = float(value)
        return int(number) if number.is_integer() else None
