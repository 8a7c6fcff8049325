"""Wrong by the selector: the third device that is opened ends the process one way or another, or hangs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import attrs
from stranger.device import StrangerDevice
from stranger.plugin import INFO, StrangerBackend

from forge3d_core.hookspecs import hookimpl
from forge3d_core.protocols import DeviceOptions


class FatalDevice(StrangerDevice):
    info = attrs.evolve(INFO, backend="fatal")


ENDS: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(0),  # as if all were well
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "leave": lambda: sys.exit(0),
    "interrupt": lambda: _interrupt(),
    "hang": lambda: threading.Event().wait(),
}


def _interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits "ignore"
    signal.raise_signal(signal.SIGINT)


class FatalBackend(StrangerBackend):
    name, info = "fatal", FatalDevice.info
    opened = 0

    def open(self, selector: str = "", options: DeviceOptions | None = None) -> Any:
        self.opened += 1
        if self.opened == 3:  # the suite itself opens the first
            ENDS[selector]()
        return super().open("", options)

    def device(self, machine: Any, options: DeviceOptions) -> FatalDevice:
        return FatalDevice(machine, options)


@hookimpl
def forge3d_backend() -> FatalBackend:
    return FatalBackend()
