"""What may be cold: its bytes compressed on the host, and no memory of the device."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from forge3d_core.cold.pieces import Pieces
from forge3d_core.errors import Closed, StateError
from forge3d_core.presentation import line, no_copy
from forge3d_core.protocols import Buffer, Texture
from forge3d_core.units import format_bytes


class _Memory(Protocol):
    """A buffer or a texture."""

    def close(self) -> None: ...


T = TypeVar("T", bound=_Memory)


class Mover(Protocol):
    """What moves the bytes of a resource: its store."""

    def compressed(self, pieces: Pieces[Any], content: Any) -> tuple[bytes, ...]: ...

    def restored(self, pieces: Pieces[T], parts: tuple[bytes, ...]) -> T: ...

    def now(self) -> float: ...

    def settle(self) -> None:
        """Do what the policy asks for, after a use."""

    def chilled(self) -> None:
        """Count a move to the host."""

    def warmed(self) -> None:
        """Count a move to the device."""


class ColdResource(Generic[T]):
    """A buffer or a texture of a :class:`ColdStore`: on the device in use, compressed on the host when not.

    Thread-safety: any thread; any number of uses at once. A move holds the resource's lock, so a use that
    comes meanwhile waits for it.
    """

    KIND = ""

    def __init__(self, mover: Mover, pieces: Pieces[T], content: T) -> None:
        self.nbytes = pieces.nbytes
        self.pieces = pieces
        self.last_used = mover.now()
        self._mover = mover
        self._uses = 0
        self._lock = threading.RLock()
        # The memory, or the parts that its bytes are compressed to; neither once it is closed. One value,
        # so an interrupt finds it before a move or after.
        self._content: T | tuple[bytes, ...] | None = content

    @property
    def cold(self) -> bool:
        """Whether its bytes are compressed on the host."""
        return isinstance(self._content, tuple)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._content is None

    @property
    def in_use(self) -> bool:
        """Whether a ``use`` is under way."""
        return self._uses > 0

    @property
    def host_bytes(self) -> int:
        """The bytes of host memory that it takes: 0 unless it is cold."""
        content = self._content
        return sum(map(len, content)) if isinstance(content, tuple) else 0

    @contextlib.contextmanager
    def use(self) -> Iterator[T]:
        """Give the memory for a ``with`` block, brought back to the device if it is cold.

        Submit within the block all work that names it. What is submitted then may still run when the block
        ends: a move comes after it. Raises :class:`Closed`, and a :class:`BudgetError` where the device has
        no room for it.
        """
        with self._lock:
            content = self._warm()
            self._uses += 1
        try:
            yield content
        finally:
            with self._lock:
                self._uses -= 1
                self.last_used = self._mover.now()
        self._mover.settle()

    def chill(self) -> int:
        """Move it to the host and give its device memory back; return how many bytes that were, 0 if cold.

        Raises :class:`StateError` while it is in use.
        """
        with self._lock:
            content = self._content
            if content is None:
                raise self._gone()
            if isinstance(content, tuple):
                return 0
            if self._uses:
                raise StateError(f"{self!r} is in use; leave the 'with ... .use()' blocks first")
            self._content = self._mover.compressed(self.pieces, content)
            content.close()
            self._mover.chilled()
            return self.nbytes

    def try_chill(self) -> int:
        """Like ``chill``, but leave one alone that is used, being moved, or closed; return the bytes."""
        if not self._lock.acquire(blocking=False):
            return 0
        try:
            return 0 if self._uses or self._content is None else self.chill()
        finally:
            self._lock.release()

    def warm(self) -> None:
        """Bring it back to the device, if it is cold."""
        with self._lock:
            self._warm()

    def close(self) -> None:
        """Give its memory back, wherever it is; idempotent. Work that was submitted goes on."""
        with self._lock:
            content, self._content = self._content, None
            if content is not None and not isinstance(content, tuple):
                content.close()

    def _warm(self) -> T:
        content = self._content
        if content is None:
            raise self._gone()
        if isinstance(content, tuple):
            content = self._content = self._mover.restored(self.pieces, content)
            self._mover.warmed()
        return content

    def _gone(self) -> Closed:
        return Closed(f"{self!r} was closed; create another in its store")

    __reduce_ex__ = no_copy

    def __repr__(self) -> str:
        content = self._content
        state = "closed" if content is None else "cold" if isinstance(content, tuple) else "warm"
        return line(f"cold {self.KIND} of {format_bytes(self.nbytes)}", state, f"{self._uses} uses")


class ColdBuffer(ColdResource[Buffer]):
    """A buffer that may be cold."""

    KIND = "buffer"


class ColdTexture(ColdResource[Texture]):
    """A texture that may be cold."""

    KIND = "texture"
