"""Backends that reckon in the types they are given, or take for whole what is not."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


def wrapped(number: Any, nbytes: int) -> Any:
    """Return ``number``, or 0 where its sum with ``nbytes`` passes the end of its own type."""
    if isinstance(number, np.integer) and int(number) + nbytes > np.iinfo(number.dtype).max:
        return 0
    return number


def rounded(number: Any) -> Any:
    """Return a float as the int below it."""
    return int(number) if isinstance(number, (float, np.floating)) else number


@mutant("ring.offsets-overflow", breaks="ring.integers", because="(bytes|texels) sent to places of.*differ")
class OffsetsOverflow(Layer):
    """The end of a copy is reckoned in the type of the offset, and begins at 0 again."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: Any = 0, **how: Any) -> Any:
            return self.real.upload(data, target, wrapped(offset, np.asarray(data).nbytes), **how)


@mutant("ring.floats-are-sizes", breaks="ring.integers", because="of 16.*nothing was raised")
class FloatsAreSizes(Layer):
    """A float is cut off where bytes are counted."""

    class Ring(Layer.Ring):
        NOUNS: ClassVar = Layer.Ring.NOUNS

        def allocate(self, nbytes: Any) -> Any:
            return self.real.allocate(rounded(nbytes))


@mutant("readback.offsets-overflow", breaks="readback.integers", because="bytes read at.*differ")
class ReadOffsetsOverflow(Layer):
    """The end of a read is reckoned in the type of its offset."""

    class Pool(Layer.Pool):
        def read(self, source: Any, *, offset: Any = 0, **region: Any) -> Any:
            return self.real.read(source, offset=wrapped(offset, int(region.get("nbytes") or 0)), **region)


@mutant("readback.bools-are-sizes", breaks="readback.integers", because="of True.*nothing was raised")
class BoolsAreSizes(Layer):
    """True is taken for one byte."""

    class Pool(Layer.Pool):
        def read(self, source: Any, *, nbytes: Any = None, **region: Any) -> Any:
            return self.real.read(source, nbytes=int(nbytes) if nbytes is True else nbytes, **region)


@mutant("device.copies-overflow", breaks="device.integers", because="copies and fills.*differ")
class CopiesOverflow(Layer):
    """The end of a copy is reckoned in the type of its offset."""

    class Commands(Layer.Commands):
        NOUNS: ClassVar = Layer.Commands.NOUNS

        def copy(self, source: Any, target: Any, nbytes: Any = None, **where: Any) -> Any:
            where = {name: wrapped(offset, int(nbytes or 0)) for name, offset in where.items()}
            return self.real.copy(source, target, nbytes, **where)


@mutant("device.floats-are-threads", breaks="device.integers", because="threads of 16.*nothing was raised")
class FloatsAreThreads(Layer):
    """A float is cut off where threads are counted."""

    class Commands(Layer.Commands):
        NOUNS: ClassVar = Layer.Commands.NOUNS

        def dispatch(self, kernel: Any, buffers: Any, params: Any = (), *, threads: Any) -> Any:
            return self.real.dispatch(kernel, buffers, params, threads=rounded(threads))
