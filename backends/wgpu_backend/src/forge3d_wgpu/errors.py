"""What wgpu raises becomes a forge3d error here, at the edge, and nowhere else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import starmap
from operator import call
from types import TracebackType
from typing import Any

import attrs
import wgpu
from wgpu.backends.wgpu_native import ffi, lib
from wgpu.backends.wgpu_native._api import error_handler, libf
from wgpu.backends.wgpu_native._helpers import ERROR_TYPES

from forge3d_core.errors import DeviceLost, ForgeError, OutOfDeviceMemory

NO_MEMORY = "not enough memory left"
"""How wgpu-core words the driver's want of memory, which it reports of textures as a validation error."""


@attrs.frozen
class NativeErrors:
    """A context in which wgpu's errors are raised as forge3d's.

    ``doing`` completes the sentence "wgpu failed while ..."; ``otherwise`` is the error for what is
    neither a lost device nor want of memory.
    """

    doing: str
    otherwise: type[ForgeError] = ForgeError

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, wgpu.GPUError):
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
    """Make native calls, (function, *arguments) each, with no Python code between them; raise wgpu's error.

    So no signal handler runs between them either: an interrupt comes before all of them or behind them.
    """
    error_handler.capture("forge3d")
    try:
        deque(starmap(call, steps), maxlen=0)
    finally:
        complaint = error_handler.release("forge3d")
    if complaint is not None:
        kind, message = complaint
        raise ERROR_TYPES.get(kind, wgpu.GPUError)(message)
