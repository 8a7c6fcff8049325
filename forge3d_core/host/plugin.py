"""The host backend as a plugin, found through its entry point like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from forge3d_core.device.device import assemble
from forge3d_core.errors import UsageError
from forge3d_core.hookspecs import API, hookimpl
from forge3d_core.host.driver import NAME, HostDriver, describe
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import HostOptions, parse_selector
from forge3d_core.protocols import ApiRange, Backend, Device, DeviceInfo, DeviceOptions


@attrs.frozen
class HostBackend:
    """Numpy and threads: the default where there is no GPU, and a seeded simulator.

    A selector is ``""`` or ``"0"``, with options as a query: ``"?seed=42"``, ``"?link=2GB/s&latency=50us"``;
    the keys are those of :class:`~forge3d_core.host.options.HostOptions`.
    """

    name: str = NAME
    api: ApiRange = API

    def probe(self) -> Sequence[DeviceInfo]:
        return [describe(HostOptions())]

    def open(self, selector: str = "", options: DeviceOptions | None = None) -> Device:
        machine = HostMachine(parse_selector(selector))
        return assemble(HostDriver(machine, selector=selector or "0"), options or DeviceOptions())

    def adopt(self, native: Any, options: DeviceOptions | None = None) -> Device:
        """Open a device on the caller's :class:`HostMachine`, whose lanes it then shares."""
        if not isinstance(native, HostMachine):
            raise UsageError(f"host adopts a HostMachine as a device, not {type(native).__name__}")
        return assemble(HostDriver(native, owned=False), options or DeviceOptions())


@hookimpl
def forge3d_backend() -> Backend:
    return HostBackend()
