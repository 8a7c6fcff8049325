"""Devices whose buffers pass their memory on wrongly."""

from __future__ import annotations

from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant("device.recycle-shared", breaks="device.recycle", because="still open")
class RecycleShared(Layer):
    """The old buffer and the new one are one."""

    class Buffer(Layer.Buffer):
        def recycle(self) -> Any:
            return self


@mutant("device.recycle-early", breaks="device.recycle", because="was recycled while")
class RecycleEarly(Layer):
    """What is in use is passed on too."""

    class Buffer(Layer.Buffer):
        def recycle(self) -> Any:
            fresh = self.real.recycle()
            return self if fresh is None else fresh


@mutant("device.recycle-copied", breaks="device.recycle", because="bytes changed")
class RecycleEmpty(Layer):
    """The new buffer has other memory."""

    class Device(Layer.Device):
        def create_buffer(self, nbytes: int | str, *, label: str = "") -> Any:
            made = self.real.create_buffer(nbytes, label=label)
            self.layer.__dict__.setdefault("maker", self.real)
            return made

    class Buffer(Layer.Buffer):
        def recycle(self) -> Any:
            fresh = self.real.recycle()
            if fresh is None:
                return None
            fresh.close()
            return self.layer.__dict__["maker"].create_buffer(fresh.nbytes)
