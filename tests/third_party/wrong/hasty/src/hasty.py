"""Wrong in one way: where a ring comes round again, allocate looks one fence too early."""

from __future__ import annotations

from typing import Any

import attrs
from stranger.device import StrangerDevice
from stranger.plugin import INFO, StrangerBackend
from stranger.ring import Ring
from stranger.slice import Block, Slice

from forge3d_core.hookspecs import hookimpl
from forge3d_core.protocols import DeviceOptions


class HastyBlock(Block):
    early = False

    def free(self) -> bool:
        point = self.point
        if self.early and point is not None and 0 < point.value - 1 <= point.timeline.completed:
            self.clear()
        return super().free()


class HastyRing(Ring):
    block_type = HastyBlock

    def allocate(self, nbytes: int) -> Slice | None:
        with self.changed:
            first = self._blocks[0]
            assert isinstance(first, HastyBlock)
            first.early = True
            try:
                return super().allocate(nbytes)
            finally:
                first.early = False


class HastyDevice(StrangerDevice):
    info = attrs.evolve(INFO, backend="hasty")
    ring_type = HastyRing


class HastyBackend(StrangerBackend):
    name, info = "hasty", HastyDevice.info

    def device(self, machine: Any, options: DeviceOptions) -> HastyDevice:
        return HastyDevice(machine, options)


@hookimpl
def forge3d_backend() -> HastyBackend:
    return HastyBackend()
