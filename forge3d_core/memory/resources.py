"""Buffers, and what they share with textures: device memory as users and commands name it."""

from __future__ import annotations

from typing import Any, NoReturn, Self

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import shown
from forge3d_core.errors import Closed, ForeignObject, OutOfRange, WrongType
from forge3d_core.memory.allocator import Allocator, Owned
from forge3d_core.presentation import line, named, presents
from forge3d_core.units import format_bytes

READ = "pool.read(...).wait()"


@attrs.frozen(eq=False)
class BufferMemory:
    """A buffer as commands name it: it stays valid while they run, closed or not."""

    native: Any
    nbytes: int


class DeviceMemory:
    """What buffers and textures of the assembled device share."""

    def __init__(self, owner: object, allocator: Allocator, owned: Owned, label: str) -> None:
        self.owner = owner  # identity only: which device made it
        self.label = label
        self.allocation = owned.allocation
        self._release = allocator.release
        self.owned: Owned | None = owned  # None: closed

    @property
    def native(self) -> Any:
        self.check()
        return self.allocation.native

    @property
    def closed(self) -> bool:
        return self.owned is None

    def check(self, owner: object | None = None) -> None:
        """Raise :class:`Closed`, or :class:`ForeignObject` unless ``owner`` made it."""
        if owner is not None and owner is not self.owner:
            raise ForeignObject(f"{self!r} belongs to another device")
        if self.owned is None:
            raise Closed(f"{self!r} was closed")

    def _line(self, what: str, size: str) -> str:
        info = getattr(self.owner, "info", None)  # a device's
        place = "" if info is None else f" on {info.backend}:{info.selector}"
        return line(f"{what} {size}{place}", "closed" if self.closed else "")

    def close(self) -> None:
        owned, self.owned = self.owned, None
        if owned is not None:  # this call alone has it now, so that it goes back however the call ends
            self._release(owned)

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        raise WrongType(f"{self!r} has no len(); .nbytes is its size, and {READ} gives an array")

    def __iter__(self) -> NoReturn:
        raise WrongType(
            f"{self!r} is no sequence: {READ} gives an array, and one buffer of several is [buffer]"
        )

    def __getitem__(self, _index: object) -> NoReturn:
        raise WrongType(
            f"{self!r} has no items; read a part: pool.read(buffer, offset=..., nbytes=...).wait()"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


@presents(protocols.RecyclableBuffer, array=READ)
class DeviceBuffer(DeviceMemory):
    """See :class:`forge3d_core.protocols.Buffer`."""

    def __init__(self, owner: object, allocator: Allocator, owned: Owned, nbytes: int, label: str) -> None:
        super().__init__(owner, allocator, owned, label)
        self._allocator = allocator
        self.nbytes = nbytes
        self.memory = BufferMemory(owned.allocation.native, nbytes)

    def __getattr__(self, name: str) -> Any:
        # Interop interfaces exist exactly where the API's own object has them.
        if name in ("__cuda_array_interface__", "__dlpack__", "__dlpack_device__"):
            return getattr(self.native, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def region(self, offset: int, nbytes: int) -> None:
        """Raise :class:`OutOfRange` unless the bytes lie inside."""
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise OutOfRange(
                f"bytes {shown(offset)} to {shown(offset + nbytes)} do not lie inside {self!r} of "
                f"{self.nbytes} bytes"
            )

    def recycle(self) -> DeviceBuffer | None:
        """See :meth:`forge3d_core.protocols.RecyclableBuffer.recycle`."""
        owned = self.owned
        if owned is None:
            self.check()
            return None
        fresh = self._allocator.recycle(owned)
        if fresh is None:
            return None
        self.owned = None
        return DeviceBuffer(self.owner, self._allocator, fresh, self.nbytes, self.label)

    def __repr__(self) -> str:
        return self._line(named("buffer", self.label), f"of {format_bytes(self.nbytes)}")
