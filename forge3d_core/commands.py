"""The command list: work recorded and checked on any thread, submitted once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index
from typing import Protocol

import attrs
import numpy as np

from forge3d_core import protocols
from forge3d_core.allocation import Allocation
from forge3d_core.driver import Command, Copy, Dispatch, Fill
from forge3d_core.errors import ForeignObject, KernelError, OutOfRange, StateError, UsageError
from forge3d_core.kernels import CompiledKernel
from forge3d_core.memory import DeviceBuffer
from forge3d_core.protocols import KernelSource, Limits, Param


class Owner(Protocol):
    """The device that a list is recorded for; ``check`` raises where it can take no work any more."""

    def check(self) -> None: ...


@attrs.define(eq=False)
class RecordedCommands:
    """See :class:`forge3d_core.protocols.CommandList`."""

    owner: Owner
    limits: Limits
    label: str = ""
    commands: list[Command] = attrs.field(factory=list, init=False)
    reads: dict[Allocation, None] = attrs.field(factory=dict, init=False)
    writes: dict[Allocation, None] = attrs.field(factory=dict, init=False)
    named: dict[DeviceBuffer, None] = attrs.field(factory=dict, init=False)
    _submitted: bool = attrs.field(default=False, init=False)

    def __len__(self) -> int:
        return len(self.commands)

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
        if nbytes is None:
            nbytes = min(origin.nbytes - source_offset, goal.nbytes - target_offset)
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
        if not isinstance(value, int) or not 0 <= value <= 255:
            raise UsageError(f"a fill value is a byte, 0 to 255, not {value!r}")
        nbytes = goal.nbytes - offset if nbytes is None else nbytes
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
            raise ForeignObject(f"{kernel!r} was not made by this device's create_kernel")
        source = kernel.source
        bound = tuple(self._buffer(buffer) for buffer in buffers)
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
        self._record(
            Dispatch(kernel, tuple(b.memory for b in bound), values, extent),
            tuple(buffer for binding, buffer in access if binding.access == "read"),
            tuple(buffer for binding, buffer in access if binding.access != "read"),
        )
        return self

    def take(self) -> list[Command]:
        """Hand the commands over for their one submission."""
        self._open()
        for buffer in self.named:
            buffer.check()
        self._submitted = True
        return self.commands

    def give_back(self) -> None:
        """Undo :meth:`take` after a submission that failed: the list may be submitted again."""
        self._submitted = False

    def _open(self) -> None:
        self.owner.check()
        if self._submitted:
            raise StateError("this command list was submitted; a list is submitted once, record a new one")

    def _buffer(self, buffer: protocols.Buffer) -> DeviceBuffer:
        self._open()
        if not isinstance(buffer, DeviceBuffer):
            raise ForeignObject(f"{buffer!r} is not a buffer of this device; adopt() wraps native memory")
        buffer.check(self.owner)
        return buffer

    def _threads(self, source: KernelSource, threads: int | tuple[int, ...]) -> tuple[int, int, int]:
        try:
            given = tuple(index(n) for n in (threads if isinstance(threads, Iterable) else (threads,)))
        except TypeError:
            given = ()
        if not 1 <= len(given) <= 3 or min(given) < 1:
            raise UsageError(f"threads is an int or up to three of them, each from 1, not {threads!r}")
        x, y, z = (*given, 1, 1)[:3]
        groups = [-(-n // size) for n, size in zip((x, y, z), source.workgroup, strict=True)]
        if any(n > most for n, most in zip(groups, self.limits.max_groups, strict=True)):
            raise UsageError(
                f"{threads!r} threads of kernel {source.name!r} are {groups} workgroups of "
                f"{source.workgroup}; this device runs at most {list(self.limits.max_groups)} at once: "
                "use larger workgroups or several dispatches"
            )
        return x, y, z

    def _record(
        self, command: Command, reads: Sequence[DeviceBuffer], writes: Sequence[DeviceBuffer]
    ) -> None:
        self.commands.append(command)
        self.reads.update((buffer.allocation, None) for buffer in reads)
        self.writes.update((buffer.allocation, None) for buffer in writes)
        self.named.update((buffer, None) for buffer in (*reads, *writes))


def _scalar(kernel: str, param: Param, value: float) -> int | float:
    number: int | float | None = None
    if isinstance(value, (int, float, np.integer, np.floating)):
        if param.dtype == "f4":
            number = float(value)
        elif float(value).is_integer():
            bounds = np.iinfo(param.dtype)
            number = int(value) if bounds.min <= value <= bounds.max else None
    if number is None:
        raise KernelError(
            f"parameter {param.name!r} of kernel {kernel!r} is a {param.dtype}; {value!r} is not one"
        )
    return number
