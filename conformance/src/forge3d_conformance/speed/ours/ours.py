"""forge3d as a contestant."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import attrs

from forge3d_conformance.kernels import INCREMENT
from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_conformance.speed.ours.coordinating import COORDINATING
from forge3d_conformance.speed.ours.demo import DEMO
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_conformance.speed.ours.overlapping import OVERLAPPING
from forge3d_conformance.speed.ours.pooling import POOLING
from forge3d_conformance.speed.ours.reading import READING
from forge3d_conformance.speed.ours.streaming import STREAMING
from forge3d_conformance.speed.ours.submitting import SUBMITTING
from forge3d_conformance.speed.ours.systems import SYSTEMS
from forge3d_conformance.speed.ours.uploading import UPLOADING
from forge3d_core.protocols import Device, KernelSource

MAKERS: Mapping[str, Maker] = {
    **SUBMITTING,
    **UPLOADING,
    **READING,
    **STREAMING,
    **OVERLAPPING,
    **SYSTEMS,
    **COORDINATING,
    **POOLING,
    **DEMO,
}


class Ours:
    """See :class:`~forge3d_conformance.speed.contestant.Contestant`; the device stays its caller's."""

    name = "forge3d"

    def __init__(self, device: Device, kernel: KernelSource = INCREMENT) -> None:
        self._device = device
        self._kernel = device.create_kernel(kernel)
        self._shared: dict[str, Any] = {}

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(MAKERS)

    def runner(self, operation: str, nbytes: int) -> Runner:
        make = MAKERS.get(operation)
        if make is None:
            raise unknown(self.name, operation)
        with ExitStack() as stack:
            runner = make(Operands(self._device, self._kernel, stack, self._shared), nbytes)
            kept = stack.pop_all()
        return attrs.evolve(runner, close=kept.close)

    def close(self) -> None:
        """Nothing is left: each runner gives back its own operands."""
