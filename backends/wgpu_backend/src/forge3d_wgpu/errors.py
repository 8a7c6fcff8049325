"""What wgpu raises becomes a forge3d error here, at the edge, and nowhere else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import starmap
from operator import call
from types import TracebackType
from typing import Any, Self

import attrs
import wgpu
from wgpu.backends.wgpu_native import ffi, lib
from wgpu.backends.wgpu_native._api import error_handler, libf
from wgpu.backends.wgpu_native._helpers import ERROR_TYPES

from forge3d_core.errors import DeviceLost, ForgeError, OutOfDeviceMemory

NO_MEMORY = "not enough memory left"
"""How wgpu-core words the driver's want of memory, which it reports of textures as a validation error."""


@attrs.define
class Losses:
    """How often a call found its device lost, in the process: a change has every lane look at its own."""

    count: int = 0


LOSSES = Losses()


class NativeErrors:
    """A context in which wgpu's errors are raised as forge3d's.

    Both what wgpu-py raises, and what wgpu complains of on this thread in calls that go past wgpu-py: a slot
    for it lies on wgpu-py's stack of those who listen. ``doing`` completes the sentence "wgpu failed while
    ..."; ``otherwise`` is the error for what is neither a lost device nor want of memory.
    """

    __slots__ = ("doing", "message", "name", "otherwise", "stack", "type")

    def __init__(self, doing: str, otherwise: type[ForgeError] = ForgeError) -> None:
        self.doing = doing
        self.otherwise = otherwise
        self.name = "forge3d"  # with the next two, what wgpu-py's ErrorSlot has
        self.type = ""
        self.message: str | None = None
        self.stack: Any = None

    def __enter__(self) -> Self:
        self.stack = stack = error_handler._get_proxy_stack()  # of this thread
        stack.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack = self.stack
        while stack and stack.pop() is not self:
            pass  # left there by a call of wgpu-py's that an interrupt cut short
        if error is None and self.message is not None:
            self.check()
        elif isinstance(error, wgpu.GPUError):
            raise self.translate(error) from error

    def check(self) -> None:
        """Raise what wgpu has complained of."""
        if self.message is not None:
            error = ERROR_TYPES.get(self.type, wgpu.GPUError)(self.message)
            self.message = None
            raise self.translate(error) from error

    def translate(self, error: Exception) -> ForgeError:
        """Return the forge3d error for a native one."""
        text = complaint(error)
        if isinstance(error, wgpu.GPUOutOfMemoryError) or NO_MEMORY in text.lower():
            return OutOfDeviceMemory(
                f"the driver had no memory left while {self.doing} ({text}); close what is no longer needed, "
                "or lower the budget so that the refusal comes earlier"
            )
        if is_loss(text):
            LOSSES.count += 1
            return device_lost(f"found while {self.doing}")
        return self.otherwise(f"wgpu failed while {self.doing}: {text}")


def complaint(error: Exception) -> str:
    """Return a native error's text without the frame around it."""
    text = str(error).strip()
    _, framed, cause = text.partition("Caused by:")
    return "\n".join(line.rstrip() for line in cause.splitlines() if line.strip()) if framed else text


def is_loss(text: str) -> bool:
    return "device is lost" in text.lower() or "device lost" in text.lower()


def device_lost(how: str) -> DeviceLost:
    return DeviceLost(
        f"the wgpu device is gone ({how}): it was destroyed or its driver gave up, and all that was in "
        "flight is lost; close this device and open another"
    )


_EMPTY_LAYOUT = ffi.new("WGPUBindGroupLayoutDescriptor*")


def is_alive(device: Any) -> bool:
    """Whether the device still works; wgpu-py writes a loss to its log and offers no way to ask.

    An empty bind group layout is the cheapest thing (1.4 us) that a lost device refuses to make.
    """
    if device._internal is None:
        return False
    try:
        layout = libf.wgpuDeviceCreateBindGroupLayout(device._internal, _EMPTY_LAYOUT)
    except wgpu.GPUError:
        return False
    lib.wgpuBindGroupLayoutRelease(layout)
    return True


def call_all(steps: Iterable[tuple[Any, ...]]) -> None:
    """Make native calls, (function, *arguments) each, with no Python code between them.

    So no signal handler runs between them either: an interrupt comes before all of them or behind them.
    """
    deque(starmap(call, steps), maxlen=0)
