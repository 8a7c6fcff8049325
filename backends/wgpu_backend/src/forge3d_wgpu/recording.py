"""Recordings: commands in wgpu's terms, from which any number of command buffers can be made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from forge3d_core.driver import Command, Dispatch
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
        self.add(self.calls.copy(source, source_offset, target, target_offset, nbytes))

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
        memory: Sequence[Bound],
        values: Sequence[float],
        groups: tuple[int, int, int],
    ) -> None:
        """Dispatch ``groups`` workgroups."""
        if kernel.packing:
            params, start = self.params.place(kernel.pack(values))
            group, offset = self.groups.get(kernel, (*memory, params)), self.calls.offset(start)
        else:
            group, offset = self.groups.get(kernel, memory), self.calls.offset(None)
        if self._pass is None:
            self._pass = []
            self._steps.append(self.calls.compute(self._pass))
        self._pass.append((kernel.pipeline, group, offset, groups))

    def drop(self) -> None:
        """Let go of all memory; called when any of it is freed."""
        self.dropped = True
        self._steps, self._pass = [], None

    def encode(self, device: Any) -> Any:
        """Return a native command buffer, the caller's to submit and to release."""
        return self.calls.encode(device, self._steps)


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
        kind = KernelError if Dispatch in map(type, commands) else ForgeError
        recording = Recording(self.groups.calls, self.groups, Params(arenas or self.arenas), kind)
        self.fill(recording, commands)
        return recording

    def fill(self, recording: Recording, commands: Sequence[Command]) -> None:
        for command in commands:
            self.translators[type(command)](recording, command)
