"""The guard of a native device: its owner's ``destroy`` never pulls anything from under forge3d.

wgpu-native ends the process when a submission names a device or memory that was destroyed, or a buffer
that is mapped, and when the mapping of a destroyed buffer is asked for. So ``destroy`` of a device that
forge3d uses is noted at once, and carried out when the last forge3d device over it has closed;
``destroy`` of a buffer or texture is carried out between two submissions. Everything here may be called
from a finalizer or a signal handler, at any moment: nothing waits for a lock.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import wgpu

from forge3d_core.driver import Command, Dispatch
from forge3d_core.errors import UsageError

MAPPABLE = wgpu.BufferUsage.MAP_READ | wgpu.BufferUsage.MAP_WRITE


@attrs.define(eq=False)
class Guard:
    """One for each native device, shared by all that forge3d makes over it."""

    _device: Callable[[], Any] = lambda: None  # weak, and None where there is none
    lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)  # of polls and submissions
    lost: bool = attrs.field(default=False, init=False)  # whether its owner destroyed the device
    tampered: bool = attrs.field(default=False, init=False)  # whether any memory was, or may be mapped
    _users: set[object] = attrs.field(factory=set, init=False)
    doomed: deque[Any] = attrs.field(factory=deque, init=False)  # memory to be destroyed

    @classmethod
    def over(cls, device: Any, user: object) -> Guard:
        """Return the guard of ``device``; until ``user`` leaves, ``device.destroy()`` is only noted."""
        guard: Guard = device.__dict__.setdefault("_forge3d_guard", cls(weakref.ref(device)))
        guard._users.add(user)
        device.destroy = guard._destroy_device
        return guard

    def leave(self, user: object, *, destroy: bool) -> None:
        """Let go of the device; ``destroy`` it, now or when its last user leaves."""
        self._users.discard(user)
        if destroy:
            self._destroy_device()

    def watch(self, memory: Any) -> Any:
        """Return ``memory``, a buffer or texture, whose ``destroy`` is known from now on."""
        memory.destroy = partial(self._destroy_memory, weakref.ref(memory))
        if isinstance(memory, wgpu.GPUBuffer) and memory.usage & MAPPABLE:
            self.tampered = True
        return memory

    def check(self, natives: Iterable[Any]) -> None:
        """Raise :class:`UsageError` if any of the buffers or textures was destroyed or is mapped."""
        for native in natives if self.tampered else ():
            if "_forge3d_destroyed" in vars(native):
                raise UsageError(
                    "a buffer or texture that the commands name was destroyed natively, by its owner or "
                    "through 'native'; close it in forge3d and record the commands with memory that is there"
                )
            state = getattr(native, "map_state", "unmapped")
            if state != "unmapped":
                raise UsageError(f"a buffer that the commands name is {state} by its owner; unmap it first")

    def carry_out(self) -> None:
        """Destroy the memory whose turn has come; the lock is held."""
        while self.doomed:
            memory = self.doomed.popleft()
            type(memory).destroy(memory)

    def _destroy_device(self) -> None:
        self.lost = True
        device = self._device()
        if not self._users and device is not None:
            type(device).destroy(device)

    def _destroy_memory(self, reference: weakref.ref[Any]) -> None:
        memory = reference()
        if memory is None:
            return
        memory._forge3d_destroyed = self.tampered = True
        self.doomed.append(memory)
        if not self.lock.locked():  # otherwise its holder, or the next, carries it out
            with self.lock:
                self.carry_out()


def natives(commands: Sequence[Command]) -> Iterator[Any]:
    """Yield the device memory that the commands name, as wgpu knows it."""
    for command in commands:
        if type(command) is Dispatch:
            yield from (memory.native for memory in command.buffers)
        else:
            ends = (getattr(command, "source", None), getattr(command, "target", None))
            yield from (memory.native for memory in ends if memory is not None)
