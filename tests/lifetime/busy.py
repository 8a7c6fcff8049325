"""A driver whose device works until a test says otherwise, and devices of it that are closed meanwhile."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.lifetime.deferred_close import DeferredClose
from forge3d_core.protocols import DeviceOptions, KernelSource


class Busy(HostDriver):
    """A driver whose device works until the test says otherwise."""

    def __init__(self) -> None:
        super().__init__(HostMachine())
        self.busy = True
        self.asked: list[float] = []
        self.closed = 0
        self.then: Callable[[], object] = lambda: None

    def close(self, timeout: float) -> bool:
        self.asked.append(timeout)
        self.then()
        if self.busy:
            return False
        self.closed += 1
        super().close(timeout)
        return True

    def compile(self, _source: KernelSource) -> tuple[str, Any]:
        return "host", np.zeros(1)  # unlike a function it can be seen to go, and only when it goes

    def submit(self, *_arguments: object) -> object:
        return object()  # which keeps nothing

    def query(self, _token: object) -> bool:
        return not self.busy

    def retire(self, _token: object) -> None:
        pass

    def left(self) -> DeferredClose:
        """Leave it, as a device does that closes while it works."""
        left = DeferredClose("busy", self.close)
        assert not left.end(0.0)
        self.asked.clear()
        return left


def raising(driver: Busy, error: BaseException, times: int = 1) -> None:
    """Have the next calls of ``close`` raise."""
    left = [error] * times

    def fail() -> None:
        if left:
            raise left.pop()

    driver.then = fail


def close_busy(driver: Busy) -> list[weakref.ref[Any]]:
    """Close a device of ``driver`` while it works; return what the work uses."""
    made = assemble(driver, DeviceOptions(drain_timeout=0.0))
    own = np.zeros(64, np.uint8)
    used = [made.create_buffer(64), made.adopt(own), made.create_kernel(KernelSource("k", {"host": print}))]
    kept = [weakref.ref(one.native) for one in used]
    with pytest.warns(ResourceWarning, match="in flight after 0 s, and keeps what it uses"):
        made.close()
    return kept


def alive(used: list[weakref.ref[Any]]) -> list[bool]:
    gc.collect()
    return [one() is not None for one in used]
