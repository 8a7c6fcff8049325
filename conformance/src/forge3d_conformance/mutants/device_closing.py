"""Devices that are not closed when close returns."""

from __future__ import annotations

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant(
    "device.second-close-returns",
    breaks="device.closed",
    because="a second close came back",
    requires=("hold",),
)
class SecondCloseReturns(Layer):
    """A close returns at once where another thread's is under way."""

    class Device(Layer.Device):
        def close(self) -> None:
            if not self.target.closed:
                self.target.close()
