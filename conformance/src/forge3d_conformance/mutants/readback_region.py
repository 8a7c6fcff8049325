"""Reads of the wrong bytes, or into the wrong array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.mutants.landing import Altered
from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import OutOfRange, UsageError

ROW = 256
"""WebGPU's row pitch."""


def flat(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a copy of the bytes."""
    return np.frombuffer(array.tobytes(), np.uint8).copy()


def like(data: NDArray[np.uint8], array: NDArray[Any]) -> NDArray[Any]:
    """Return bytes as an array of the same dtype and shape."""
    return np.ndarray(array.shape, array.dtype, buffer=data)


@mutant("readback.padding-left-in", breaks="readback.exact", because="values differ", requires=("textures",))
class PaddingLeftIn(Altered):
    """The rows of a texture come with the padding that the API puts between them."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        if not hasattr(handle.source, "format") or not array.size:
            return array
        rows = flat(array).reshape(len(array), -1)
        padded = np.zeros((len(array), -(-rows.shape[1] // ROW) * ROW), np.uint8)
        padded[:, : rows.shape[1]] = rows
        return like(padded.reshape(-1)[: array.nbytes].copy(), array)


@mutant(
    "readback.origin-is-ignored", breaks="readback.exact", because="values differ", requires=("textures",)
)
class OriginIsIgnored(Layer):
    """A rectangle of a texture is always read from its corner."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            region.pop("origin", None)
            return self.real.read(source, **region)


@mutant("readback.offset-is-aligned", breaks="readback.exact", because="values differ|was refused")
class OffsetIsAligned(Layer):
    """An offset is rounded down to four bytes."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            if region.get("offset", 0) > 0 and (region.get("nbytes") or region.get("shape") is not None):
                region["offset"] &= ~3
            return self.real.read(source, **region)


@mutant("readback.tail-is-cut", breaks="readback.exact", because="values differ")
class TailIsCut(Altered):
    """The last bytes that make no whole word are not copied."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        data = flat(array)
        data[data.size & ~3 :] = 0
        return like(data, array)


@mutant("readback.block-is-all", breaks="readback.exact", because="values differ")
class BlockIsAll(Altered):
    """What does not fit in a block of the configured size is not copied."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        data = flat(array)
        data[handle.pool.config.buffer_size :] = 0
        return like(data, array)


@mutant("readback.bytes-only", breaks="readback.exact", because="dtype uint8 where")
class BytesOnly(Altered):
    """A read always gives bytes."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        return flat(array)


@mutant("readback.shape-is-flat", breaks="readback.exact", because=r"shape \(.*where")
class ShapeIsFlat(Altered):
    """A read always gives one dimension."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(-1)


@mutant("readback.byte-order-is-native", breaks="readback.exact", because="dtype .* where")
class ByteOrderIsNative(Altered):
    """The byte order of a dtype is lost."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        return like(flat(array), array).view(array.dtype.newbyteorder("="))


@mutant("readback.nothing-is-an-error", breaks="readback.exact", because="was refused|no bytes")
class NothingIsAnError(Layer):
    """A read of no bytes is refused."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            handle = self.real.read(source, **region)
            if handle.is_complete and not handle.target.wait(5).size:
                raise UsageError("there are no bytes to read")
            return handle


@mutant("readback.end-is-clamped", breaks="readback.exact", because="nothing was raised where OutOfRange")
class EndIsClamped(Layer):
    """A region past the end is cut to what there is."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            try:
                return self.real.read(source, **region)
            except OutOfRange:
                return self.real.read(source)


@mutant("readback.out-is-copied", breaks="readback.into", because="returned another array")
class OutIsCopied(Altered):
    """The given array is filled, and wait returns another."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy()


@mutant("readback.out-is-not-filled", breaks="readback.into", because="the given array: .*values differ")
class OutIsNotFilled(Layer):
    """wait returns the given array without having filled it."""

    class Pool(Layer.Pool):
        def read(self, source: Any, *, out: Any = None, **region: Any) -> Any:
            stand_in = None if out is None else np.empty_like(out)
            handle = self.real.read(source, out=stand_in, **region)
            handle.out = out
            return handle

    class Handle(Layer.Handle):
        out: Any

        def wait(self, timeout: float | None = None) -> Any:
            array = self.target.wait(timeout)
            return array if self.out is None else self.out

        def try_get(self) -> Any:
            array = self.target.try_get()
            return array if self.out is None else self.out


@mutant("readback.out-is-flattened-first", breaks="readback.into", because="an array .*values differ")
class OutIsFlattenedFirst(Layer):
    """Of an array with gaps a flat copy is filled, and the array is returned."""

    class Pool(Layer.Pool):
        def read(self, source: Any, *, out: Any = None, **region: Any) -> Any:
            gaps = isinstance(out, np.ndarray) and not out.flags.c_contiguous and out.flags.writeable
            if not gaps or 0 in out.strides:
                return self.real.read(source, out=out, **region)
            handle = self.real.read(source, out=out.reshape(-1), **region)
            handle.out = out
            return handle

    class Handle(Layer.Handle):
        out: Any = None

        def wait(self, timeout: float | None = None) -> Any:
            array = self.target.wait(timeout)
            return array if self.out is None else self.out


@mutant("readback.out-is-overrun", breaks="readback.into", because="memory around")
class OutIsOverrun(Altered):
    """A copy in whole words writes past the end of the given array."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        if base is not array and base.dtype == np.uint8 and base.ndim == 1:
            end = array.ctypes.data - base.ctypes.data + array.nbytes
            base[end : end + (-array.nbytes) % 4] = 0
        return array


@mutant("readback.out-is-left-behind", breaks="readback.into", because="another array than the given one")
class OutIsLeftBehind(Altered):
    """A read whose block is needed by another lands in a new array."""

    def alter(self, handle: Any, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy() if handle.superseded else array


@mutant("readback.out-may-be-anything", breaks="readback.into", because="nothing was raised")
class OutMayBeAnything(Layer):
    """An array that will not do is replaced by a new one."""

    class Pool(Layer.Pool):
        def read(self, source: Any, *, out: Any = None, **region: Any) -> Any:
            try:
                return self.real.read(source, out=out, **region)
            except UsageError:
                return self.real.read(source, **region)


@mutant("readback.out-is-checked-late", breaks="readback.into", because="refused reads made")
class OutIsCheckedLate(Layer):
    """An array that will not do is refused once the copy is under way."""

    class Pool(Layer.Pool):
        def read(self, source: Any, *, out: Any = None, **region: Any) -> Any:
            try:
                return self.real.read(source, out=out, **region)
            except UsageError:
                self.real.read(source, **region)
                raise
