"""Layers that several ring mutants stand on: they know the device, and slices may have other memory."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.mutants.wrap import Layer

WHILE = 3.0
"""Seconds that a call waits which should not wait: longer than any clause allows."""


class Staged(Layer):
    """Rings that know their device, and slices that know their ring. No defect yet."""

    class Device(Layer.Device):
        NOUNS: ClassVar = Layer.Device.NOUNS

        def staging_ring(self, **options: Any) -> Any:
            ring = self.real.staging_ring(**options)
            ring.device, ring.options = self.target, options
            return ring

    class Ring(Layer.Ring):
        device: Any
        options: dict[str, Any]

        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self._spare: Any = None

        @property
        def spare(self) -> Any:
            """A sound ring like this one that nobody else uses: for what the defect does behind its back."""
            if self._spare is None:
                self._spare = self.device.staging_ring(**self.options)
            return self._spare

        def allocate(self, nbytes: int) -> Any:
            return self.adopt(self.real.allocate(nbytes))

        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            return self.adopt(self.real.reserve(nbytes, timeout))

        def adopt(self, slot: Any) -> Any:
            """Tell a slice whose it is."""
            if slot is not None:
                slot.ring = self
            return slot

    class Slice(Layer.Slice):
        ring: Any


class Shadowed(Staged):
    """Slices over memory of the suite's own, which is copied to the real one by commit. No defect yet."""

    class Ring(Staged.Ring):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            size = 2 * target.buffer_size + 64
            self.shadow = np.zeros((target.ring_count, size), np.uint8)

        def adopt(self, slot: Any) -> Any:
            slot = super().adopt(slot)
            if slot is not None:
                slot.start = self.place(slot)
            return slot

        def place(self, slot: Any) -> int:
            """Return where in the shadow of its block a slice starts."""
            return int(slot.target.offset)

    class Slice(Staged.Slice):
        start: int

        @property
        def memory(self) -> NDArray[np.uint8]:
            whole: NDArray[np.uint8] = self.ring.shadow[self.target.ring_index]
            return whole[self.start : self.start + self.target.nbytes]

        @property
        def view(self) -> Any:
            _ = self.target.view  # says so when the slice is spent
            return self.memory

        def array(self, dtype: Any, shape: Any = None) -> Any:
            wanted = self.target.array(dtype, shape)
            return np.frombuffer(self.memory, wanted.dtype, wanted.size).reshape(wanted.shape)

        def commit(self, target: Any, offset: int = 0) -> None:
            self.target.view[:] = self.memory
            self.target.commit(target.target, offset)
