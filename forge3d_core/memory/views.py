"""Host-visible memory lent out as numpy arrays, and taken back."""

from __future__ import annotations

import ctypes
import gc
import math
import sys
import weakref
from collections.abc import Callable
from itertools import islice
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import extents, shown
from forge3d_core.dtypes import byte_dtype
from forge3d_core.errors import StateError, UsageError, ViewHeld
from forge3d_core.lifetime.hold import Hold, Reference, Users, note
from forge3d_core.memory.variables import variables

# What `sys.getrefcount` counts for an array that only the loan knows: where it keeps it, and the argument.
_OWN_REFERENCES = 2
_CALLS = 32  # how many callers may have an array as a variable before memory is rather moved


class _Lending(Reference):
    """Keeps what stands for a loan, until that ends or its inner array is gone."""

    __slots__ = ("token",)
    token: Hold | None


_lendings: set[_Lending] = set()  # what takes one out when its array is gone is C, and cannot be cut short


class Loan:
    """One run of host memory, lent as arrays that can be emptied again.

    A numpy array cannot be told that its memory has gone, and a mapped range that is unmapped, or a
    staging block that is in flight, must not be written through an array that was kept. So every
    array is handed out over one private *root*. Taking back empties the arrays that were handed out
    in place (a later use raises), and the root's reference count tells whether others were derived
    from them, for numpy makes the root the base of every view of a view.

    What it cannot tell from a variable is an alias that numpy does not count: a memoryview, a view of
    another type, a ctypes or DLPack object, an iterator. Each refers to the array that it was made of,
    and so, also past its emptying, to the root and the *inner* array below, which is this loan's alone.
    While that is alive after the end of the loan, ``stale`` has a reference to it, or ``holds`` where an
    array was derived and goes on showing the memory: then the memory is used for nothing else.
    ``token`` stands for the loan: kept until that ends, or its memory is reached through no array.

    Thread-safety: one thread at a time.
    """

    __slots__ = ("_holds", "_lending", "_lent", "_root", "_stale", "_whole")

    def __init__(
        self,
        memory: NDArray[np.uint8],
        *,
        writable: bool,
        holds: Users | None = None,
        stale: Users | None = None,
        token: Hold | None = None,
    ) -> None:
        inner = memory.view()
        inner.flags.writeable = writable
        # Over a memoryview and not an ndarray, so that numpy stops here when it collapses bases.
        self._root: NDArray[np.uint8] | None = np.frombuffer(inner.data, np.uint8)
        self._lent: list[NDArray[Any]] = []
        self._whole: int | None = None
        self._holds: Users = set() if holds is None else holds
        self._stale: Users = set() if stale is None else stale
        self._lending = _Lending(inner, _lendings.discard)
        self._lending.token = token = Hold() if token is None else token
        _lendings.add(self._lending)
        note(self._holds, token)

    @property
    def over(self) -> bool:
        """Whether the memory was taken back."""
        return self._root is None

    def reached(self, over: Callable[[weakref.ref[Any]], object] | None = None) -> weakref.ref[Any]:
        """Return a reference to the token, alive until the loan ends or no array reaches its memory.

        Then ``over`` is told, by the collector perhaps; a method of a C type cannot be cut short.
        """
        return weakref.ref(self._lending.token, over)

    def whole(self) -> NDArray[np.uint8]:
        """Lend the memory as bytes: the same array each time."""
        lent, place = self._lent, self._whole
        if place is None or place >= len(lent):
            if self._root is None:
                raise StateError("this host-visible memory was taken back")  # by another thread, just now
            lent += [self._root.view()]  # as _lend makes it, in a tenth of the time
            self._whole = place = len(lent) - 1
        return lent[place]

    def array(
        self,
        dtype: Any = np.uint8,
        shape: int | tuple[int, ...] | None = None,
        row_pitch: int | None = None,
        row_axes: int = 1,
    ) -> NDArray[Any]:
        """Lend the memory as ``dtype`` and ``shape``, default 1-d and as many items as fit.

        With ``row_pitch`` rows are that many bytes apart, and the padding does not show; ``row_axes`` is how
        many of the first axes step over whole rows.
        Raises :class:`UsageError` when the items do not fit or the dtype holds Python objects.
        """
        item = byte_dtype(dtype)
        room = 0 if self._root is None else self._root.nbytes
        wanted = (room // item.itemsize,) if shape is None else extents("shape", shape)
        row = item.itemsize * math.prod(wanted[row_axes:])
        pitch = row if row_pitch is None else row_pitch
        rows = math.prod(wanted[:row_axes])
        if math.prod(wanted) and (rows - 1) * pitch + row > room:
            raise UsageError(f"{item} of shape {shown(shape)} does not fit in the {room} bytes lent")
        outer = [pitch * math.prod(wanted[axis + 1 : row_axes]) for axis in range(row_axes)]
        inner = [item.itemsize * math.prod(wanted[axis + 1 :]) for axis in range(row_axes, len(wanted))]
        return self._lend(item, wanted, (*outer, *inner)[: len(wanted)])

    def _lend(self, item: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
        root = self._root  # only here: an error that is kept would keep it, and look like an array derived
        if root is None:
            raise StateError("this host-visible memory was taken back")  # by another thread, just now
        lent: NDArray[Any] = np.ndarray(shape, item, buffer=root, strides=strides)
        lent.flags.writeable = root.flags.writeable
        self._lent.append(lent)
        return lent

    def aliased(self, caller: FrameType | None) -> bool:
        """Whether Python may reach the memory when it was taken back, by more than arrays that are emptied.

        An alias refers to the array that it was made of, and so does a variable, an item or an attribute.
        Only variables of ``caller`` and of its callers can be told from an alias, as they can be counted: no
        other thread, and no call that is over or has yet to go on, has those. Any other reference may be one.
        Raises :class:`ViewHeld` where arrays were derived.
        """
        lent, base = self._lent, getattr(self._root, "base", None)  # not the root: see _lend()
        if base is None:
            return False
        if sys.getrefcount(self._root) > _OWN_REFERENCES + len(lent):
            self._refuse_derived()
        if not lent:
            return False
        if _references_below(base) > _BELOW:
            return True
        del base
        left, ones = 0, set()
        for place in range(len(lent)):  # no name for the array, which would be a reference more
            left += sys.getrefcount(lent[place]) - _OWN_REFERENCES
            ones.add(id(lent[place]))
        if not left:
            return False
        for call in islice(variables(caller), _CALLS):
            try:
                left -= call.naming(ones)
            finally:
                call.forget()
            if left <= 0:
                return False
        return True

    def take_back(self) -> None:
        """Empty what was handed out, or raise :class:`ViewHeld` and change nothing."""
        if self._root is not None and sys.getrefcount(self._root) > _OWN_REFERENCES + len(self._lent):
            self._refuse_derived()
        self.surrender()

    def _refuse_derived(self) -> None:
        derived = sys.getrefcount(self._root) - _OWN_REFERENCES - len(self._lent)
        if derived > 0:
            raise ViewHeld(
                f"{derived} array(s) derived from this memory are still alive and would outlive it; "
                "drop them first (del), or ask .array(dtype, shape) for the shape instead of reshaping"
            )

    def surrender(self) -> None:
        """Empty what was handed out; arrays derived from it stay as they are.

        Other threads may be inside numpy with one that was handed out: ``np.copyto(lent, data)`` lets go of
        the GIL and writes to where the array pointed when it began. It refers to the array, as an alias does.
        """
        if self._root is not None:
            derived = sys.getrefcount(self._root) > _OWN_REFERENCES + len(self._lent)
            users = self._holds if derived else self._stale
            inner: NDArray[np.uint8] = self._root.base.obj  # type: ignore[union-attr]
            users.add(Reference(inner, users.discard))  # gone by itself, and at once, if nothing is left
            for place in range(len(self._lent)):
                _empty(self._lent[place], inner)
            if not derived:
                _empty(self._root, inner)  # the base of what was handed out
            del inner
            self._lent, self._root = [], None
        self._lending.token = None  # each time: the call before may have been cut short
        _lendings.discard(self._lending)


def _references_below(base: object) -> int:
    """Return how often what lies from the root's base to the inner array is referred to, that included."""
    (buffer,) = gc.get_referents(base)  # of a memoryview, and of each that is made of it
    (inner,) = gc.get_referents(buffer)
    return sys.getrefcount(base) + sys.getrefcount(buffer) + sys.getrefcount(inner)


# Where an array keeps the address of its extents: ``PyArrayObject_fields`` of numpy's C API, behind the
# object's head, has the address of the data, the number of dimensions, and this.
_address, _extent = ctypes.c_void_p, ctypes.c_ssize_t
_EXTENTS = object.__basicsize__ + 2 * ctypes.sizeof(ctypes.c_void_p)


def _extents_are_there() -> bool:
    """Whether this numpy lays out an array like that."""
    sample = np.empty((3, 5), np.uint8)
    pointer, fields = ctypes.sizeof(ctypes.c_void_p), id(sample) + object.__basicsize__
    if np.ndarray.__basicsize__ < _EXTENTS + pointer:
        return False
    data, dimensions = ctypes.c_void_p.from_address(fields), ctypes.c_int.from_address(fields + pointer)
    if (data.value, dimensions.value) != (sample.__array_interface__["data"][0], 2):
        return False
    address = _address.from_address(id(sample) + _EXTENTS).value
    if address is None:
        return False
    _extent.from_address(address).value = 2
    return sample.shape == (2, 5)


def _empty(lent: NDArray[Any], inner: NDArray[np.uint8]) -> None:
    """Make an array empty and read-only in place; ``inner`` lives on as long as it does.

    As extensions in C do it, the first extent is set. Where it points stays as it is, for an iterator that
    looks there again with the extents of old (``.flat``, ``np.broadcast``), and so does its base.
    """
    lent.flags.writeable = False
    if lent.ndim and _EXTENTS_KNOWN:
        address = _address.from_address(id(lent) + _EXTENTS).value
        _extent.from_address(address).value = 0  # type: ignore[arg-type]
        return
    # numpy's own protocol for giving an array new contents; it drops the base.
    shape, zeros = ((0,), b"") if lent.ndim else ((), bytes(lent.itemsize))
    lent.__setstate__((1, shape, lent.dtype, False, zeros))  # type: ignore[arg-type]
    lent.flags.writeable = False
    weakref.finalize(lent, lambda _inner: None, inner).atexit = False


_EXTENTS_KNOWN = _extents_are_there()
_SAMPLE = Loan(np.empty(1, np.uint8), writable=True)
_BELOW = _references_below(_SAMPLE._root.base) + 1  # type: ignore[union-attr]  # the caller's variable
