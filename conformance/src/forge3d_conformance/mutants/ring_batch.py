"""Rings that take several uploads in one call, and do it wrong."""

from __future__ import annotations

from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant("ring.batch-one-by-one", breaks="ring.batch", because="submissions, where all fit")
class BatchOneByOne(Layer):
    """Each upload is submitted as it is staged."""

    class Ring(Layer.Ring):
        def upload_many(self, uploads: Any, *, timeout: float | None = None) -> Any:
            points = [self.real.upload_many([one], timeout=timeout) for one in uploads]
            return points[-1] if points else self.real.upload_many([])


@mutant("ring.batch-checks-late", breaks="ring.batch", because="the figures are|values differ")
class BatchChecksLate(Layer):
    """An upload is checked once those before it are staged."""

    class Ring(Layer.Ring):
        def upload_many(self, uploads: Any, *, timeout: float | None = None) -> Any:
            listed = list(uploads)
            try:
                return self.real.upload_many(listed, timeout=timeout)
            except Exception:
                for one in listed:
                    self.real.upload(*one, timeout=timeout)
                raise


@mutant("ring.batch-last-lost", breaks="ring.batch", because="values differ|0 submissions|staged|in place")
class BatchLastLost(Layer):
    """The last upload of a list is left for the next call."""

    class Ring(Layer.Ring):
        def upload_many(self, uploads: Any, *, timeout: float | None = None) -> Any:
            return self.real.upload_many([*uploads][:-1], timeout=timeout)


@mutant("ring.batch-out-of-order", breaks="ring.batch", because="values differ")
class BatchOutOfOrder(Layer):
    """The largest go first."""

    class Ring(Layer.Ring):
        def upload_many(self, uploads: Any, *, timeout: float | None = None) -> Any:
            listed = list(uploads)
            try:
                listed.sort(key=lambda one: -int(one[0].nbytes))
            except (AttributeError, TypeError, IndexError):
                pass
            return self.real.upload_many(listed, timeout=timeout)
