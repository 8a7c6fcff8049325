"""Fences and what waits for them, kept awake by a thread that spins."""

from __future__ import annotations

import threading
import time
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant("fence.wait-spins", breaks="fence.idle-wait", because="of a core")
class WaitSpins(Layer):
    """A wait asks again and again without ever sleeping."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            end = float("inf") if timeout is None else time.monotonic() + timeout
            while time.monotonic() < end:
                if self.target.done:
                    return
            self.target.wait(0)


@mutant("fence.helper-spins", breaks="fence.idle-wait", because="of a core")
class HelperSpins(Layer):
    """While somebody waits for submitted work a thread of the backend asks after it without ever sleeping."""

    class Point(Layer.Point):
        def wait(self, timeout: float | None = None) -> None:
            stop = threading.Event()
            if self.target.value <= self.target.timeline.submitted:
                threading.Thread(target=spin, args=(stop,), daemon=True).start()
            try:
                self.target.wait(timeout)
            finally:
                stop.set()


def spin(stop: threading.Event) -> None:
    while not stop.is_set():
        pass


@mutant("fence.await-spins", breaks="fence.idle-wait", because="of a core")
class AwaitSpins(Layer):
    """An await lets the loop run and asks again, at once."""

    class Point(Layer.Point):
        def __await__(self) -> Any:
            while not self.target.done and self.target.timeline.failure is None:
                yield
            self.target.wait(0)


@mutant("fence.reserve-spins", breaks="fence.idle-wait", because="reserve on a full ring uses .* of a core")
class ReserveSpins(Layer):
    """A reserve on a full ring asks for room again and again without ever sleeping."""

    class Ring(Layer.Ring):
        def reserve(self, nbytes: int, timeout: float | None = None) -> Any:
            end = float("inf") if timeout is None else time.monotonic() + timeout
            while time.monotonic() < end:
                if (slot := self.real.allocate(nbytes)) is not None:
                    return slot
            return self.real.reserve(nbytes, 0)


@mutant("fence.handle-spins", breaks="fence.idle-wait", because="wait of a handle uses .* of a core")
class HandleSpins(Layer):
    """A handle's wait, or its await, asks again and again without ever sleeping."""

    class Handle(Layer.Handle):
        def wait(self, timeout: float | None = None) -> Any:
            end = float("inf") if timeout is None else time.monotonic() + timeout
            while time.monotonic() < end and not self.target.is_complete:
                pass
            return self.target.wait(0)

        def __await__(self) -> Any:
            while not self.target.is_complete:
                yield
            return self.target.wait(0)


@mutant("fence.read-spins", breaks="fence.idle-wait", because="a read of a full pool uses .* of a core")
class ReadSpins(Layer):
    """A read on a full pool asks for a block again and again without ever sleeping."""

    class Pool(Layer.Pool):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.points: list[Any] = []

        def read(self, source: Any, **region: Any) -> Any:
            while sum(not point.done for point in self.points) >= self.target.config.max_pending_ops:
                pass
            handle = self.real.read(source, **region)
            self.points.append(handle.point)
            return handle
