"""The command list: work recorded and checked on any thread, submitted once or many times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NoReturn, Protocol

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import integer, sequence, shown
from forge3d_core.device.arguments import F4, MAX_F4, check_floats, scalar, thread_counts
from forge3d_core.device.kernels import CompiledKernel
from forge3d_core.driver import Command, Copy, Dispatch, Fill, Memory
from forge3d_core.errors import (
    ForeignObject,
    KernelError,
    OutOfRange,
    StateError,
    UsageError,
    copy_exception,
)
from forge3d_core.lifetime.life import Life
from forge3d_core.memory.allocation import Allocation
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.presentation import counted, line, named, presents
from forge3d_core.protocols import FencePoint

Submit = Callable[
    [str, Sequence[Command], Collection[Allocation], Collection[Allocation], Iterable[FencePoint]],
    FencePoint,
]


class Owner(Protocol):
    """The device that a list is recorded for."""

    @property
    def life(self) -> Life: ...


@presents(protocols.CommandList)
@attrs.define(eq=False)
class RecordedCommands:
    """See :class:`forge3d_core.protocols.CommandList`.

    A call checks everything, then notes what the command uses, and appends it last: what an interrupt
    leaves is a list without the command.
    """

    owner: Owner
    label: str = ""
    reusable: bool = False
    commands: list[Command] = attrs.field(factory=list)  # PreparedCommands, if reusable
    reads: dict[Allocation, None] = attrs.field(factory=dict, init=False)
    writes: dict[Allocation, None] = attrs.field(factory=dict, init=False)
    named: dict[DeviceBuffer | CompiledKernel, None] = attrs.field(factory=dict, init=False)
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
        if self._submitted or self.owner.life.ended is not None:
            self._refuse()
        origin, goal = self._buffer(source), self._buffer(target)
        if type(source_offset) is not int or type(target_offset) is not int:
            source_offset = integer("source_offset", source_offset)
            target_offset = integer("target_offset", target_offset)
        if nbytes is None:
            nbytes = min(origin.nbytes - source_offset, goal.nbytes - target_offset)
        elif type(nbytes) is not int:
            nbytes = integer("nbytes", nbytes)
        origin.region(source_offset, nbytes)
        goal.region(target_offset, nbytes)
        if origin.allocation is goal.allocation and abs(source_offset - target_offset) < nbytes:
            raise OutOfRange(
                f"a copy of {nbytes} bytes from {source_offset} to {target_offset} of one buffer overlaps "
                "itself; copy through another buffer"
            )
        if nbytes:
            self.named[origin] = self.named[goal] = self.reads[origin.allocation] = None
            self.writes[goal.allocation] = None
            self.commands.append(Copy(origin.memory, source_offset, goal.memory, target_offset, nbytes))
        return self

    def fill(
        self, target: protocols.Buffer, value: int = 0, *, offset: int = 0, nbytes: int | None = None
    ) -> RecordedCommands:
        if self._submitted or self.owner.life.ended is not None:
            self._refuse()
        goal = self._buffer(target)
        if type(value) is not int or type(offset) is not int:
            value, offset = integer("a fill value", value), integer("offset", offset)
        if not 0 <= value <= 255:
            raise UsageError(f"a fill value is a byte, 0 to 255, not {shown(value)}")
        if nbytes is None:
            nbytes = goal.nbytes - offset
        elif type(nbytes) is not int:
            nbytes = integer("nbytes", nbytes)
        goal.region(offset, nbytes)
        if nbytes:
            self.named[goal] = self.writes[goal.allocation] = None
            self.commands.append(Fill(goal.memory, offset, nbytes, value))
        return self

    def dispatch(
        self,
        kernel: protocols.Kernel,
        buffers: Sequence[protocols.Buffer],
        params: Sequence[float] = (),
        *,
        threads: int | tuple[int, ...],
    ) -> RecordedCommands:
        owner = self.owner
        if self._submitted or owner.life.ended is not None:
            self._refuse()
        if not isinstance(kernel, CompiledKernel) or kernel.owner is not owner:
            raise ForeignObject(f"{shown(kernel)} was not made by this device's create_kernel")
        if kernel.owned is None:
            kernel.check()
        bound: Sequence[Any] = buffers if type(buffers) in (list, tuple) else sequence("buffers", buffers)
        memories: list[Memory] = []
        uploaded = False
        for buffer in bound:
            if type(buffer) is not DeviceBuffer or buffer.owned is None or buffer.owner is not owner:
                buffer = self._buffer(buffer)
            memories.append(buffer.memory)
            uploaded = uploaded or buffer.allocation.uploaded is not None
        given = params if type(params) in (tuple, list) else sequence("params", params)
        if len(bound) != len(kernel.writes) or len(given) != len(kernel.ranges):
            raise _mismatch(kernel, len(bound), len(given))
        values: list[int | float] = []
        for whole in kernel.ranges:
            value = given[len(values)]
            if whole is None and type(value) is float and -MAX_F4 <= value <= MAX_F4:
                (value,) = F4.unpack(F4.pack(value))
            elif whole is None or type(value) is not int or value not in whole:
                value = scalar(kernel.source.name, kernel.source.params[len(values)], value)
            values.append(value)
        most = kernel.max_threads
        if type(threads) is int and 0 < threads <= most[0]:
            extent = threads, 1, 1
        else:
            extent = thread_counts(kernel, threads)
        if uploaded:
            check_floats(kernel.source, bound, self.writes)
        named, reads, writes = self.named, self.reads, self.writes
        named[kernel] = reads[kernel.allocation] = None
        for buffer, written in zip(bound, kernel.writes, strict=True):
            named[buffer] = None
            if written:
                writes[buffer.allocation] = None
            else:
                reads[buffer.allocation] = None
        self.commands.append(Dispatch(kernel, tuple(memories), tuple(values), extent))
        return self

    def submit(self, submit: Submit, lane: str, after: Iterable[FencePoint]) -> FencePoint:
        """Have ``submit`` run the commands, once unless the list is reusable."""
        if self._submitted and not self.reusable:
            self._refuse()
        for one in self.named:
            if one.owned is None:
                one.check()
        before, self._submitted = self._submitted, True
        try:
            return submit(lane, self.commands, self.reads, self.writes, after)
        except BaseException:
            self._submitted = before  # nothing was submitted, so the list still can be
            raise

    def _refuse(self) -> NoReturn:
        """Raise what keeps a list from being recorded on."""
        if (ended := self.owner.life.ended) is not None:
            raise copy_exception(ended)
        raise StateError(
            "this command list was submitted, and what it runs stays as it is; record a new one"
            if self.reusable
            else "this command list was submitted; a list is submitted once: record a new one, or "
            "ask for command_list(reusable=True)"
        )

    def _buffer(self, buffer: protocols.Buffer) -> DeviceBuffer:
        if not isinstance(buffer, DeviceBuffer):
            raise ForeignObject(
                f"{shown(buffer)} is not a buffer of this device; upload() brings arrays to one, and adopt() "
                "wraps native memory"
            )
        if buffer.owner is not self.owner or buffer.owned is None:
            buffer.check(self.owner)
        return buffer


def _mismatch(kernel: CompiledKernel, buffers: int, params: int) -> KernelError:
    source = kernel.source
    return KernelError(
        f"kernel {source.name!r} takes {len(source.bindings)} buffer(s) "
        f"({', '.join(b.name for b in source.bindings)}) and {len(source.params)} parameter(s) "
        f"({', '.join(p.name for p in source.params)}); "
        f"given were {buffers} and {params}"
    )
