"""Rings that do not see whose a slice is by now."""

from __future__ import annotations

import threading
import weakref
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import FenceTimeout, SliceOutstanding


class Watching(Layer):
    """Knows which slices are open, and who allocated them. No defect yet."""

    def __init__(self) -> None:
        super().__init__()
        self.open: weakref.WeakKeyDictionary[Any, threading.Thread] = weakref.WeakKeyDictionary()

    class Slice(Layer.Slice):
        layer: Any

        def __init__(self, layer: Any, target: Any) -> None:
            super().__init__(layer, target)
            layer.open[self] = threading.current_thread()

        def commit(self, target: Any, offset: int = 0) -> None:
            self.real.commit(target, offset)
            self.layer.open.pop(self, None)

        def release(self) -> None:
            self.real.release()
            self.layer.open.pop(self, None)

    def mine(self) -> int:
        """Return how many slices of the calling thread are open."""
        return sum(thread is threading.current_thread() for thread in list(self.open.values()))


@mutant("ring.slices-stay-their-allocators", breaks="ring.handover", because="refused to wait for a slice")
class SlicesStayTheirAllocators(Watching):
    """A slice counts as the allocating thread's, wherever it went."""

    class Ring(Layer.Ring):
        layer: Any

        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            try:
                return self.real.reserve(nbytes, 0)
            except FenceTimeout:
                if self.layer.mine():
                    raise SliceOutstanding("waiting would never end") from None
            return self.real.reserve(nbytes, timeout)


@mutant("ring.handed-over-and-forgotten", breaks="ring.handover", because="handed over: nothing was raised")
class HandedOverAndForgotten(Watching):
    """advance does not wait for slices that this thread allocated and another has."""

    class Ring(Layer.Ring):
        layer: Any

        def advance(self, timeout: float | None = None) -> Any:
            try:
                return self.real.advance(timeout)
            except FenceTimeout:
                if self.layer.mine():
                    return None
                raise


@mutant(
    "ring.dropped-elsewhere-stays", breaks="ring.handover", because="that its new holder dropped still counts"
)
class DroppedElsewhereStays(Layer):
    """A slice that another thread drops is never gone."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Ring(Layer.Ring):
        layer: Any

        def allocate(self, nbytes: int) -> Any:
            slot = self.real.allocate(nbytes)
            self.layer.kept.append(slot)
            return slot


@mutant("ring.mistake-waits", breaks="ring.handover", because="this thread alone has: FenceTimeout")
class MistakeWaits(Layer):
    """A thread that waits for its own slice is told after its timeout."""

    class Ring(Layer.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            try:
                return self.real.advance(timeout)
            except SliceOutstanding:
                raise FenceTimeout("slices are not committed") from None
