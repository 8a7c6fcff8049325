"""What the host's memory allows: numpy's copies, on one thread."""

from __future__ import annotations

import numpy as np

from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_core.protocols import Device


class NumpyCopies:
    name = "numpy"

    def runner(self, operation: str, nbytes: int) -> Runner:
        source = np.full(nbytes, 7, np.uint8)
        match operation:
            case "copyto":
                target = np.zeros_like(source)
                return Runner(lambda: np.copyto(target, source))
            case "copy":
                return Runner(source.copy)
        raise unknown(self.name, operation)

    def close(self) -> None:
        """Nothing is held."""


def make(_device: Device) -> NumpyCopies:
    return NumpyCopies()
