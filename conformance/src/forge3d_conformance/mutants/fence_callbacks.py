"""Timelines that call back under a lock."""

from __future__ import annotations

import threading
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant(
    "fence.callback-under-lock",
    breaks="fence.callbacks",
    because="did not come back|did not come within|a thread got",
)
class CallbackUnderLock(Layer):
    """A callback runs under the lock that a submission needs."""

    def __init__(self) -> None:
        super().__init__()
        self.submitting = threading.Lock()

    class Point(Layer.Point):
        def on_done(self, callback: Any) -> None:
            layer: Any = self.layer

            def locked(point: Any, error: Any) -> None:
                with layer.submitting:
                    callback(point, error)

            super().on_done(locked)

    class Device(Layer.Device):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            layer: Any = self.layer
            if not layer.submitting.acquire(timeout=5.0):
                raise TimeoutError("the lock of submissions was not to be had")
            try:
                return self.real.submit(*args, **kwargs)
            finally:
                layer.submitting.release()
