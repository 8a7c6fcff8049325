"""Wrong in one way: a read has the bytes of the moment they are asked for, not of its submission."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from stranger.device import StrangerDevice
from stranger.handle import Lease, Read
from stranger.plugin import INFO, StrangerBackend
from stranger.readback import Pool
from stranger.region import Region

from forge3d_core.hookspecs import hookimpl
from forge3d_core.protocols import DeviceOptions


class LatePool(Pool):
    def _submit(self, region: Region, block: Any, after: Iterable[Any]) -> Any:
        block.writer = self.device.run(self.lane, [], [region.source], [], after)
        return block.writer

    def _land(self, read: Read) -> None:
        self._fetch(read)
        super()._land(read)

    def lease(self, read: Read) -> Lease:
        self._fetch(read)
        return super().lease(read)

    def _fetch(self, read: Read) -> None:
        with self._changed:
            if read.state == "flying" and read.block is not None:
                read.region.copy(read.block.data)


class LateDevice(StrangerDevice):
    info = attrs.evolve(INFO, backend="late")
    pool_type = LatePool


class LateBackend(StrangerBackend):
    name, info = "late", LateDevice.info

    def device(self, machine: Any, options: DeviceOptions) -> LateDevice:
        return LateDevice(machine, options)


@hookimpl
def forge3d_backend() -> LateBackend:
    return LateBackend()
