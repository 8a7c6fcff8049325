"""What the host's memory allows: numpy's copies, on one thread."""

from __future__ import annotations

import numpy as np

from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_core.protocols import Device

ROW, PITCH = 4004, 4096  # bytes of a row that needs padding, and of one that has it
STALL = 64 * 1024


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
            case "rows":
                padded = np.full((nbytes // ROW, PITCH), 7, np.uint8)
                return Runner(padded[:, :ROW].copy)
            case "copy-64k":
                small = np.full(STALL, 7, np.uint8)
                return Runner(small.copy)
        raise unknown(self.name, operation)

    def close(self) -> None:
        """Nothing is held."""


def make(_device: Device) -> NumpyCopies:
    return NumpyCopies()
