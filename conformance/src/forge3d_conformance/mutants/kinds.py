"""Backends that take any bytes of the right number for what was wanted."""

from __future__ import annotations

from typing import Any

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap


@mutant("ring.texels-by-size", breaks="ring.kinds", because="nothing was raised", requires=("textures",))
class TexelsBySize(Layer):
    """An array whose texels have the right number of bytes is sent, whatever they stand for."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            array, format = np.asarray(data), getattr(unwrap(target), "format", None)
            if format is not None and array.ndim > 1:
                texel = array.itemsize * int(np.prod(array.shape[2:]))
                if texel == format.block_bytes:
                    shape = (*array.shape[:2], format.channels)
                    array = (
                        np.ascontiguousarray(array)
                        .view(np.uint8)
                        .reshape(-1)
                        .view(format.dtype)
                        .reshape(shape)
                    )
            return self.real.upload(array, target, offset, **how)


@mutant(
    "ring.byte-order-ignored", breaks="ring.kinds", because=">.*nothing was raised", requires=("textures",)
)
class ByteOrderIgnored(Layer):
    """The bytes of a number in another order are sent as they lie."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            if isinstance(data, np.ndarray) and not data.dtype.isnative and hasattr(unwrap(target), "format"):
                data = data.view(data.dtype.newbyteorder("="))
            return self.real.upload(data, target, offset, **how)


@mutant("ring.masks-ignored", breaks="ring.kinds", because="a masked array: nothing was raised")
class MasksIgnored(Layer):
    """What is under the mask of an array is sent."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            data = data.data if isinstance(data, np.ma.MaskedArray) else data
            return self.real.upload(data, target, offset, **how)


@mutant("ring.no-bytes-are-one", breaks="ring.kinds", because="upload of no bytes.*differ")
class NoBytesAreOne(Layer):
    """No bytes are made an array of one empty string, which has one."""

    class Ring(Layer.Ring):
        def upload(self, data: Any, target: Any, offset: int = 0, **how: Any) -> Any:
            data = bytes(1) if isinstance(data, bytes) and not data else data
            return self.real.upload(data, target, offset, **how)


@mutant(
    "readback.dtype-ignored", breaks="readback.kinds", because="nothing was raised", requires=("textures",)
)
class DtypeIgnored(Layer):
    """A texture is read as what it is, whatever was asked for."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **region: Any) -> Any:
            if hasattr(unwrap(source), "format"):
                region.pop("dtype", None)
            return self.real.read(source, **region)


@mutant("readback.out-by-size", breaks="readback.kinds", because="into an array.*nothing was raised")
class OutBySize(Layer):
    """Any array of the right number of bytes is written."""

    class Pool(Layer.Pool):
        def read(self, source: Any, *, out: Any = None, **region: Any) -> Any:
            wanted = np.dtype(
                region.get("dtype") or getattr(getattr(unwrap(source), "format", None), "dtype", "u1")
            )
            if isinstance(out, np.ndarray) and out.flags.c_contiguous and out.nbytes % wanted.itemsize == 0:
                out = out.reshape(-1).view(wanted)
            return self.real.read(source, out=out, **region)
