"""Recordings: commands in wgpu's terms, from which any number of command buffers can be made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from forge3d_core.driver import Command, Dispatch, Memory
from forge3d_core.errors import ForgeError, KernelError
from forge3d_wgpu.groups import BindGroups
from forge3d_wgpu.kernels import CompiledKernel
from forge3d_wgpu.native import Bound, Dialect, Dispatched, Rows, Step
from forge3d_wgpu.params import Arenas, Params
from forge3d_wgpu.staging import HostBlock


@attrs.define(eq=False, weakref_slot=True)
class Recording:
    """A list of commands, translated. Adjacent dispatches share a compute pass.

    Thread-safety: one thread at a time while it is filled; it does not change afterwards.
    """

    calls: Dialect
    groups: BindGroups
    params: Params
    kind: type[ForgeError] = ForgeError  # of errors for which wgpu has no better name
    blocks: dict[int, HostBlock] = attrs.field(factory=dict, init=False)  # that are named, by id
    _used: dict[tuple[Any, ...], Any] = attrs.field(factory=dict, init=False)  # bind groups
    _steps: list[Step] = attrs.field(factory=list, init=False)
    _pass: list[Dispatched] | None = attrs.field(default=None, init=False)
    dropped: bool = attrs.field(default=False, init=False)  # whether memory of it has gone: make it anew

    def use(self, block: Any) -> Any:
        """Note that ``block`` is named and return its buffer."""
        self.blocks[id(block)] = block
        return block.native

    def add(self, step: Step) -> None:
        self._pass = None
        self._steps.append(step)

    def copy(self, source: Any, source_offset: int, target: Any, target_offset: int, nbytes: int) -> None:
        """Copy whole words between two buffers."""
        self._pass = None
        self._steps.append(self.calls.copy(source, source_offset, target, target_offset, nbytes))

    def clear(self, target: Any, offset: int, nbytes: int) -> None:
        """Clear whole words."""
        self.add(self.calls.clear(target, offset, nbytes))

    def upload_rows(self, rows: Rows) -> None:
        self.add(self.calls.upload_rows(rows))

    def download_rows(self, rows: Rows) -> None:
        self.add(self.calls.download_rows(rows))

    def run(
        self,
        kernel: CompiledKernel,
        memory: tuple[Memory | Bound, ...],
        values: Sequence[float],
        groups: tuple[int, int, int],
    ) -> None:
        """Dispatch ``groups`` workgroups over all of what a command names, or over parts of buffers."""
        arena, packed, offset = -1, b"", None
        if kernel.pack is not None:
            packed = kernel.pack(*values)
            arena, offset = self.params.place(packed)
        used = kernel, memory, arena
        group = self._used.get(used)
        if group is None:
            bound = [part if isinstance(part, Bound) else Bound(part.native) for part in memory]
            if packed:
                bound.append(Bound(self.params.arenas.buffer(arena), 0, len(packed)))
            group = self._used[used] = self.groups.get(kernel, bound)
        if self._pass is None:
            self._pass = []
            self._steps.append(self.calls.compute(self._pass))
        self._pass.append((kernel.pipeline, group, offset or self.calls.offset(None), groups))

    def drop(self) -> None:
        """Let go of all memory; called when any of it is freed."""
        self.dropped = True
        self._steps, self._pass = [], None
        self._used.clear()

    def encode(self, device: Any) -> Any:
        """Return a native command buffer, the caller's to submit and to release; None without commands."""
        return self.calls.encode(device, self._steps) if self._steps else None


Translator = Callable[[Recording, Any], None]


@attrs.frozen(eq=False)
class Recorder:
    """Translates the commands of one device. One thread at a time."""

    groups: BindGroups
    arenas: Arenas
    translators: Mapping[type, Translator]

    def record(self, commands: Sequence[Command], arenas: Arenas | None = None) -> Recording:
        """Return the translation of ``commands``, with the parameters in ``arenas`` if given.

        Raises :class:`KernelError` for a dispatch that wgpu refuses.
        """
        calls = self.groups.calls
        kind = KernelError if Dispatch in map(type, commands) else ForgeError
        recording = Recording(calls, self.groups, Params(arenas or self.arenas, calls), kind)
        self.fill(recording, commands)
        return recording

    def fill(self, recording: Recording, commands: Sequence[Command]) -> None:
        for command in commands:
            self.translators[type(command)](recording, command)
