"""What the entry point names: the hook, and the backend behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forge3d_core.errors import NoDevice, UsageError
from forge3d_core.hookspecs import hookimpl
from forge3d_core.protocols import ApiRange, ApiVersion, DeviceInfo, DeviceOptions, Limits

LIMITS = Limits(
    max_buffer_size=2**31,
    max_texture_size=8192,
    languages=("host",),
    concurrent_lanes=False,  # one queue, in the order of submission
)
INFO = DeviceInfo(
    backend="stranger", name="one thread", kind="cpu", selector="only", driver="1.0", limits=LIMITS
)


class StrangerBackend:
    """Has one device, ``only``; a native device is a :class:`stranger.machine.Machine`."""

    name, info = "stranger", INFO
    api = ApiRange(oldest=ApiVersion(1, 0), newest=ApiVersion(1, 0))

    def probe(self) -> Sequence[DeviceInfo]:
        return [self.info]

    def open(self, selector: str = "", options: DeviceOptions | None = None) -> Any:
        if selector not in ("", "only"):
            raise NoDevice(f"{self.name} has no device {selector!r}; there is 'only'", backend=self.name)
        return self.device(None, options or DeviceOptions())

    def adopt(self, native: Any, options: DeviceOptions | None = None) -> Any:
        from stranger.machine import Machine

        if not isinstance(native, Machine):
            raise UsageError(f"{self.name} adopts a Machine, not {type(native).__name__}")
        return self.device(native, options or DeviceOptions())

    def device(self, machine: Any, options: DeviceOptions) -> Any:
        from stranger.device import StrangerDevice

        return StrangerDevice(machine, options)


@hookimpl
def forge3d_backend() -> StrangerBackend:
    return StrangerBackend()
