"""Streams that look back, wait, or lose count."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import numpy as np

from forge3d_conformance.mutants.landing import WHILE
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import Busy


@mutant("readback.frame-shown-twice", breaks="readback.latest", because="shown twice|was shown after")
class FrameShownTwice(Layer):
    """Without a new frame latest returns the last one again."""

    class Stream(Layer.Stream):
        last: Any = None

        def latest(self) -> Any:
            frame = self.target.latest()
            self.last = self.last if frame is None else frame
            return self.last


@mutant("readback.frames-step-back", breaks="readback.latest", because="was shown after frame|was the newest")
class FramesStepBack(Layer):
    """latest shows every frame one too late."""

    class Stream(Layer.Stream):
        def __init__(self, layer: Layer, target: Any) -> None:
            super().__init__(layer, target)
            self.waiting: list[Any] = []

        def latest(self) -> Any:
            frame = self.target.latest()
            if frame is not None:
                self.waiting.append(frame)
            return self.waiting.pop(0) if len(self.waiting) > 1 else None


@mutant("readback.frame-is-torn", breaks="readback.latest", because="more than one")
class FrameIsTorn(Layer):
    """A frame is written over while it is shown."""

    class Stream(Layer.Stream):
        last: Any = None

        def latest(self) -> Any:
            frame = self.target.latest()
            if frame is None:
                return None
            torn = frame.copy()
            if self.last is not None:
                torn[-100:] = self.last[-100:]
            self.last = frame
            return torn


@mutant("readback.frame-is-early", breaks="readback.latest", because="the device holds was shown|shows one")
class FrameIsEarly(Layer):
    """latest shows a frame that has not landed."""

    class Stream(Layer.Stream):
        pushed = False

        def push(self, *args: Any, **kwargs: Any) -> bool:
            self.pushed = True
            return bool(self.target.push(*args, **kwargs))

        def latest(self) -> Any:
            frame = self.target.latest()
            return np.zeros(700, np.uint8) if frame is None and self.pushed else frame


@mutant("readback.passed-over-is-forgotten", breaks="readback.latest", because="passed over|dropped of")
class PassedOverIsForgotten(Layer):
    """Only frames that push gave up are counted as dropped."""

    class Stream(Layer.Stream):
        refused = 0

        def push(self, *args: Any, **kwargs: Any) -> bool:
            pushed = bool(self.target.push(*args, **kwargs))
            self.refused += not pushed
            return pushed

        @property
        def dropped_frames(self) -> int:
            return self.refused


@mutant("readback.no-room-is-forgotten", breaks="readback.latest", because="that had no room|dropped of")
class NoRoomIsForgotten(Layer):
    """Frames that push gave up are not counted as dropped."""

    class Stream(Layer.Stream):
        refused = 0

        def push(self, *args: Any, **kwargs: Any) -> bool:
            pushed = bool(self.target.push(*args, **kwargs))
            self.refused += not pushed
            return pushed

        @property
        def dropped_frames(self) -> int:
            return int(self.target.dropped_frames) - self.refused


@mutant("readback.push-waits", breaks="readback.latest", because="must not wait")
class PushWaits(Layer):
    """push waits for a free block."""

    class Stream(Layer.Stream):
        def push(self, *args: Any, **kwargs: Any) -> bool:
            if self.target.push(*args, **kwargs):
                return True
            threading.Event().wait(WHILE)
            return bool(self.target.push(*args, **kwargs))


@mutant("readback.push-raises", breaks="readback.latest", because="raised Busy")
class PushRaises(Layer):
    """push into a full pool is an error."""

    class Stream(Layer.Stream):
        def push(self, *args: Any, **kwargs: Any) -> bool:
            if not self.target.push(*args, **kwargs):
                raise Busy("no room for this frame")
            return True


@mutant("readback.pool-ignores-dropped", breaks="readback.latest", because="the pool counts 0")
class PoolIgnoresDropped(Layer):
    """The pool's statistics know of no dropped frame."""

    class Pool(Layer.Pool):
        def stats(self) -> Any:
            return attrs.evolve(self.target.stats(), dropped_frames=0)
