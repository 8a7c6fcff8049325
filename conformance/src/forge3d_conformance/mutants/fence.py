"""Fences that lie, sleep or spin."""

from __future__ import annotations

from typing import ClassVar

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant("fence.done-at-submit", breaks="fence.not-early", because="says done|ran past|nothing was raised")
class DoneAtSubmit(Layer):
    """A point is done as soon as it has been submitted."""

    class Point(Layer.Point):
        NOUNS: ClassVar = Layer.Point.NOUNS

        @property
        def done(self) -> bool:
            return bool(self.target.value <= self.target.timeline.submitted)
