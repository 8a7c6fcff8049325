"""Signals: the callbacks that wgpu owes us, noted without running any Python code.

An exception cannot get out of a cffi callback: an interrupt in one would be lost, and the completion with it.
So what wgpu calls is a list's own ``append``, a step of C (record 20). The interrupt then arrives in the call
that polled, and the completion has been noted.
"""

from __future__ import annotations

from typing import Any

import attrs
from wgpu.backends.wgpu_native import ffi, lib

SUCCESS = 1  # of WGPUMapAsyncStatus and of WGPUQueueWorkDoneStatus
assert SUCCESS == lib.WGPUMapAsyncStatus_Success == lib.WGPUQueueWorkDoneStatus_Success

_FIRE, _MAPPED, _WORKED, _MAPPED_INFO, _WORKED_INFO = map(
    ffi.typeof,
    (
        "void(*)(uint32_t)",
        "WGPUBufferMapCallback",
        "WGPUQueueWorkDoneCallback",
        "WGPUBufferMapCallbackInfo*",
        "WGPUQueueWorkDoneCallbackInfo*",
    ),
)
_spare: list[Signal] = []
_owed: set[Signal] = set()  # wgpu holds their plain C pointers; appending and adding are atomic


@attrs.define(eq=False)
class Signal:
    """A callback of wgpu's, which may fire on any thread that polls; made once, used again and again.

    The C function takes the status alone: the calling conventions of all platforms that wgpu-native
    exists for let a function ignore what was passed behind the arguments that it knows.
    """

    statuses: list[int] = attrs.field(factory=list, init=False)  # what it was called with; empty until then
    _callback: Any = attrs.field(init=False)
    mapped: Any = attrs.field(init=False)  # WGPUBufferMapCallbackInfo, to be passed by value
    worked: Any = attrs.field(init=False)  # WGPUQueueWorkDoneCallbackInfo

    def __attrs_post_init__(self) -> None:
        self._callback = ffi.callback(_FIRE, self.statuses.append)
        self.mapped = ffi.new(_MAPPED_INFO)
        self.mapped.callback = ffi.cast(_MAPPED, self._callback)
        self.mapped.mode = lib.WGPUCallbackMode_AllowProcessEvents
        self.worked = ffi.new(_WORKED_INFO)
        self.worked.callback = ffi.cast(_WORKED, self._callback)
        self.worked.mode = lib.WGPUCallbackMode_AllowProcessEvents

    @classmethod
    def take(cls) -> Signal:
        """Return a signal that has not fired."""
        try:
            signal = _spare.pop()
        except IndexError:
            signal = cls()
        _owed.add(signal)
        signal.statuses.clear()
        return signal

    def give(self) -> None:
        """Let others use it; one that has not fired is kept for wgpu, which may still call it."""
        if self.statuses and self in _owed:
            _owed.discard(self)
            _spare.append(self)

    @property
    def clear_step(self) -> tuple[Any, ...]:
        """The call after which the signal has not fired, for where no Python code may run."""
        return (self.statuses.clear,)

    def note(self) -> None:
        """Fire: there is nothing to wait for."""
        self.statuses.append(SUCCESS)

    @property
    def fired(self) -> bool:
        return bool(self.statuses)

    @property
    def failed(self) -> bool:
        return bool(self.statuses) and self.statuses[0] != SUCCESS
