"""Timelines that call back under a lock, or stop calling once a callback has raised."""

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


@mutant("fence.callback-raised-once", breaks="fence.callbacks", because="callbacks beside one that raised")
class CallbackRaisedOnce(Layer):
    """Once a callback has raised, no other is called."""

    raised = False

    class Point(Layer.Point):
        def on_done(self, callback: Any) -> None:
            layer: Any = self.layer

            def called(point: Any, error: Any) -> None:
                if layer.raised:
                    return
                try:
                    callback(point, error)
                except Exception:
                    layer.raised = True

            super().on_done(called)
