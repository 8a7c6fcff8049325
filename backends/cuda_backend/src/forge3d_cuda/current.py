"""Which device is current in a thread: ours for a call, the caller's before and after."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from forge3d_cuda.errors import translate


class OnDevice:
    """Makes a device current for a block of code and gives the caller's back, as the thread's own."""

    __slots__ = ("_index", "_previous", "_runtime")

    def __init__(self, runtime: Any, index: int) -> None:
        self._runtime = runtime
        self._index = index

    def __enter__(self) -> None:
        try:
            self._previous = self._runtime.getDevice()
            if self._previous != self._index:
                self._runtime.setDevice(self._index)
        except RuntimeError as error:
            raise translate(error, f"making CUDA device {self._index} current") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous != self._index:
            try:
                self._runtime.setDevice(self._previous)
            except RuntimeError:
                pass  # the caller's device is lost; its own next call will say so


class _Thread(threading.local):
    bound = False


class BoundThreads:
    """The threads in which a device has its context, so that a launch finds it.

    A new thread answers ``getDevice`` with 0 and has no context yet. The runtime's calls make one current;
    a launch, which is the driver API's, is refused.
    """

    __slots__ = ("_get", "_index", "_set", "_thread")

    def __init__(self, runtime: Any, index: int) -> None:
        self._get, self._set = runtime.getDevice, runtime.setDevice
        self._index = index
        self._thread = _Thread()

    def ready(self) -> bool:
        """Whether a call of this thread reaches the device as things are."""
        try:
            return self._thread.bound and self._get() == self._index
        except RuntimeError:
            return False  # making it current says why

    def bind(self) -> None:
        """Make the context this thread's, inside :class:`OnDevice`."""
        if not self._thread.bound:
            self._set(self._index)
            self._thread.bound = True
