"""Bind groups: what a kernel's bindings are bound to, made once for each combination of memory."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import attrs

from forge3d_core.errors import KernelError
from forge3d_core.units import format_bytes
from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.kernels import CompiledKernel
from forge3d_wgpu.native import CALLS, WHOLE, Bound, Dialect

MOST_KEPT = 1024

Key = tuple[Any, ...]  # the kernel and its parts of buffers


class Dependent(Protocol):
    """What keeps groups of its own."""

    def drop(self) -> None: ...


@attrs.define(eq=False)
class BindGroups:
    """The bind groups of a device, kept as long as their memory is; the oldest go first.

    A group keeps its buffers' memory. So it goes when the driver frees one of them, and those with memory
    that its owner may give back at any time are not kept.

    Thread-safety: ``get`` one thread at a time, ``forget`` any thread: each of their steps is atomic.
    """

    device: Any
    calls: Dialect = attrs.field(factory=lambda: CALLS)
    most_bound: int = attrs.field(init=False)  # bytes
    _kept: dict[Key, Any] = attrs.field(factory=dict, init=False)
    _keys: dict[int, set[Key]] = attrs.field(factory=dict, init=False)  # by id of a buffer, of a kernel
    _dependent: dict[int, set[weakref.ref[Dependent]]] = attrs.field(factory=dict, init=False)  # likewise
    _foreign: weakref.WeakSet[Any] = attrs.field(factory=weakref.WeakSet, init=False)

    def __attrs_post_init__(self) -> None:
        self.most_bound = self.device.limits["max-storage-buffer-binding-size"]

    def mark_foreign(self, buffer: Any) -> None:
        """Keep no group with ``buffer``, which is its owner's."""
        self._foreign.add(buffer)

    def get(self, kernel: CompiledKernel, memory: Sequence[Bound]) -> Any:
        """Return the group of ``memory``, in the order of the kernel's bindings, its parameters last.

        Raises :class:`KernelError` for memory that may not be bound so.
        """
        key = (kernel, *memory)
        group = self._kept.get(key)
        if group is None:
            self.check(kernel, memory)
            with NativeErrors(f"binding memory to kernel {kernel.source.name!r}", KernelError):
                group = self.calls.bind(self.device, kernel.layout, memory)
            if self._foreign.isdisjoint(part.buffer for part in memory):
                self._keep(key, group)
        return group

    def depend(self, dependent: Dependent, buffers: Iterable[Any]) -> None:
        """Drop ``dependent`` when any of the buffers is freed."""
        for buffer in buffers:
            others = self._dependent.setdefault(id(buffer), set())
            others.add(weakref.ref(dependent, others.discard))

    def forget(self, one: Any) -> None:
        """Let go of all groups with a buffer, or for a kernel."""
        for reference in self._dependent.pop(id(one), ()):
            if (dependent := reference()) is not None:
                dependent.drop()
        for key in self._keys.pop(id(one), ()):
            self._drop(key)

    def clear(self) -> None:
        self._dependent.clear()
        self._kept.clear()
        self._keys.clear()

    def _keep(self, key: Key, group: Any) -> None:
        if len(self._kept) >= MOST_KEPT:
            with contextlib.suppress(StopIteration, RuntimeError):  # another thread forgets some
                self._drop(next(iter(self._kept)))
        for one in _named(key):
            self._keys.setdefault(id(one), set()).add(key)
        self._kept[key] = group

    def _drop(self, key: Key) -> None:
        self._kept.pop(key, None)
        for one in _named(key):
            keys = self._keys.get(id(one))
            if keys is not None:
                keys.discard(key)

    def check(self, kernel: CompiledKernel, memory: Sequence[Bound]) -> None:
        """Raise :class:`KernelError` for memory that is too large for a binding, or bound in two ways."""
        source = kernel.source
        bound: dict[int, tuple[str, bool]] = {}
        for binding, part in zip(source.bindings, memory, strict=False):
            nbytes = part.buffer.size if part.nbytes == WHOLE else part.nbytes
            if nbytes > self.most_bound:
                raise KernelError(
                    f"kernel {source.name!r}: {binding.name!r} is bound to {format_bytes(nbytes)}; "
                    f"this adapter binds at most {format_bytes(self.most_bound)} "
                    "(max-storage-buffer-binding-size), so split the data over several buffers"
                )
            reads = binding.access == "read"
            name, read_before = bound.setdefault(id(part.buffer), (binding.name, reads))
            if reads != read_before:
                raise KernelError(
                    f"kernel {source.name!r}: one buffer is bound to {name!r} and to {binding.name!r}, and "
                    "one of the two writes, which WebGPU forbids: use a second buffer, or make both "
                    "'readwrite'"
                )


def _named(key: Key) -> list[Any]:
    """Return the kernel of a group and the buffers."""
    kernel, *parts = key
    return [kernel, *(part.buffer for part in parts)]
