"""Kinds of alias of an array's memory that Python keeps alive, and how each reads and writes it."""

from __future__ import annotations

import ctypes
import pickle
import struct
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

PAIR = np.dtype([("a", "u1"), ("b", "u1")])
BYTES = ctypes.POINTER(ctypes.c_ubyte)
Make = Callable[[Any], Any]


class Sub(np.ndarray[Any, Any]):
    """Any subclass."""


class Described:
    """An object that describes memory and keeps what has it."""

    def __init__(self, interface: str, array: Any) -> None:
        setattr(self, interface, getattr(array, interface))
        self.kept = array


def _window(alias: Any) -> Any:
    return np.asarray(alias) if isinstance(alias, np.ndarray) else np.frombuffer(alias, np.uint8)


@attrs.frozen
class Kind:
    """One kind: ``make`` an alias of a 1-d array of bytes, and ``look`` at memory through it, now."""

    name: str
    make: Make
    look: Make = _window

    def seen(self, alias: Any) -> set[int]:
        """Return the different bytes that the alias shows; none where it raises."""
        try:
            return set(np.ascontiguousarray(self.look(alias)).reshape(-1).view(np.uint8).tolist())
        except (ValueError, TypeError, IndexError, BufferError, StopIteration):
            return set()

    def write(self, alias: Any, value: int) -> None:
        """Write through the alias all that it lets one write."""
        try:
            window = self.look(alias)
            window[...] = np.frombuffer(bytes([value]) * window.itemsize, window.dtype)[0]
        except (ValueError, TypeError, IndexError, BufferError, StopIteration):
            pass


def _pickled(array: Any) -> Any:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(array, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=buffers)  # what was made here a line above


def _frame(array: Any) -> Iterator[Any]:
    held = memoryview(array)
    while True:
        yield held


def _started(array: Any) -> Iterator[Any]:
    frame = _frame(array)
    next(frame)
    return frame


def _rest(pairs: Any) -> Any:
    pairs.reset()
    return np.array([int(first) for first, _ in pairs], np.uint8)


def _octets(nbytes: int) -> Any:
    return ctypes.c_ubyte * nbytes


def _pointer(array: Any) -> Any:
    return array.ctypes.data_as(BYTES)


def _behind(pointer: Any) -> Any:
    return np.ctypeslib.as_array(pointer, (64,))


def _access(array: Any) -> Any:
    return "readwrite" if array.flags.writeable else "readonly"


def _next(items: Any) -> Any:
    return np.array(next(items), np.uint32)


KINDS = (
    Kind("a variable", lambda a: a),
    Kind("memoryview", memoryview),
    Kind("memoryview, read-only", lambda a: memoryview(a).toreadonly()),
    Kind("memoryview, cast", lambda a: memoryview(a).cast("B").cast("I")),
    Kind("memoryview, in part", lambda a: memoryview(a)[8:]),
    Kind("ndarray.data", lambda a: a.data),
    Kind("np.frombuffer", lambda a: np.frombuffer(a, np.uint8)),
    Kind("np.frombuffer of a memoryview", lambda a: np.frombuffer(memoryview(a), np.uint8)),
    Kind("np.asarray of a memoryview", lambda a: np.asarray(memoryview(a))),
    Kind("np.ndarray(buffer=)", lambda a: np.ndarray(a.nbytes // 2, np.uint16, a)),
    Kind("ctypes", lambda a: _octets(a.nbytes).from_buffer(a)),
    Kind("a ctypes pointer", _pointer, _behind),
    Kind("np.ctypeslib.as_array", lambda a: np.ctypeslib.as_array(_pointer(a), (a.nbytes,))),
    Kind("as_strided", lambda a: as_strided(a, (a.nbytes,), (1,))),
    Kind("sliding_window_view", lambda a: sliding_window_view(a, 4, writeable=a.flags.writeable)),
    Kind("np.broadcast_to", lambda a: np.broadcast_to(a, (2, a.nbytes))),
    Kind("reshape", lambda a: a.reshape(2, -1).T),
    Kind("a part", lambda a: a[::3]),
    Kind("a field", lambda a: a.view(PAIR)["b"]),
    Kind("getfield", lambda a: a.getfield(np.uint8)),
    Kind("real", lambda a: a.view(np.complex64).real),
    Kind("a subclass", lambda a: a.view(Sub)),
    Kind("a part of a subclass", lambda a: a.view(Sub)[4:]),
    Kind("np.matrix", np.asmatrix),
    Kind("a masked array", lambda a: np.ma.array(a, copy=False)),
    Kind("np.recarray", lambda a: a.view(PAIR).view(np.recarray)),
    Kind("np.rec.array", lambda a: np.rec.array(a, copy=False)),
    Kind("np.char.chararray", lambda a: a.view("S4").view(np.char.chararray)),
    Kind("np.void", lambda a: a.view(f"V{a.nbytes}")[0]),
    Kind("np.from_dlpack", np.from_dlpack),
    Kind("a DLPack capsule", lambda a: a.__dlpack__(), lambda _capsule: np.empty(0, np.uint8)),
    Kind("__array_interface__", lambda a: Described("__array_interface__", a), np.asarray),
    Kind("__array_struct__", lambda a: Described("__array_struct__", a), np.asarray),
    Kind("ndarray.ctypes", lambda a: a.ctypes, lambda c: _behind(c.data_as(BYTES))),
    Kind("flat", lambda a: a.flat, lambda flat: flat[:]),
    Kind("an item of flat", lambda a: a.flat, lambda flat: np.array(flat[len(flat) - 1])),
    Kind("np.nditer", lambda a: np.nditer(a, op_flags=[[_access(a)]]), lambda it: it[0]),
    Kind("np.nditer, in one", lambda a: np.nditer(a, ["external_loop"], [[_access(a)]]), lambda it: it[0]),
    Kind("np.broadcast", lambda a: np.broadcast(a, 0), _rest),
    Kind("np.ndenumerate", np.ndenumerate, lambda pairs: np.array(next(pairs)[1])),
    Kind("struct.iter_unpack", lambda a: struct.iter_unpack("<I", a), _next),
    Kind("pickle, out of band", _pickled),
    Kind("pickle.PickleBuffer", pickle.PickleBuffer),
    Kind("a generator's frame", _started, lambda frame: _window(next(frame))),
    Kind("a closure", lambda a: (lambda held: lambda: held)(memoryview(a)), lambda get: _window(get())),
    Kind("its base", lambda a: a.base),
    Kind("the base of its base", lambda a: a.base.base if isinstance(a.base, np.ndarray) else a.base),
)
