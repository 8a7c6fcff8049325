"""The way into a driver: open to any thread until the device closes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from forge3d_core.errors import Closed


@attrs.define(eq=False)
class Gate:
    """Lets calls in until it is shut, and tells whoever shuts it when the last of them is out.

    Any thread may be inside a driver, or copying to memory that it mapped, when another closes the
    device; native code does not survive that. What is inside must not wait for the device.
    """

    _inside: int = attrs.field(default=0, init=False)
    _shut: bool = attrs.field(default=False, init=False)
    _changed: threading.Condition = attrs.field(factory=threading.Condition, init=False)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside for the block; raises :class:`Closed` once the gate is shut."""
        with self._changed:
            if self._shut:
                raise Closed("the device was closed")
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if not self._inside:
                    self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody in any more, and wait until everybody is out; idempotent."""
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: not self._inside)
