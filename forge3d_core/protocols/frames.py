"""Frames that go up, are worked on and come home, as a device streams them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self, TypedDict, Unpack, runtime_checkable

from numpy.typing import ArrayLike, NDArray

from forge3d_core.protocols.kernel import CommandList, Kernel
from forge3d_core.protocols.memory import Buffer
from forge3d_core.protocols.trace import TracedDevice

Work = Callable[[CommandList, Buffer, Buffer, int], object]
"""Records what is done with frame number n: ``work(commands, source, target, n)``."""

Into = Callable[[int], NDArray[Any]] | Sequence[NDArray[Any]] | NDArray[Any]
"""The arrays that results go to, by index or by a call with it."""


class StreamOptions(TypedDict, total=False):
    """How frames are streamed."""

    depth: int  # frames on their way at once; 3 unless given
    threads: int | tuple[int, ...] | None  # of a kernel; one for each item of a frame unless given
    params: Sequence[float]  # of a kernel
    result: tuple[Any, tuple[int, ...]] | None  # dtype and shape of a result; those of its frame unless given
    into: Into | None
    progress: Callable[[int], object] | None  # called with the number of frames that are done


class FrameResults(Iterator[NDArray[Any]], Protocol):
    """The results of a stream, in the order of its frames; a ``with`` block closes it."""

    def close(self) -> None:
        """Give up what is in flight and give the memory back when the device is done; idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> NDArray[Any]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class StreamingDevice(TracedDevice, Protocol):
    """A device that streams frames.

    Devices that the core assembles are; :func:`forge3d_core.stream` does the same on any other.
    """

    def stream(
        self,
        frames: Iterable[ArrayLike] | AsyncIterable[ArrayLike],
        work: Kernel | Work,
        **how: Unpack[StreamOptions],
    ) -> FrameResults:
        """Upload each frame, run ``work`` on it and yield its result, consecutive frames overlapping.

        ``for``, ``async for`` or ``next`` take the results. See :func:`forge3d_core.stream` for the whole.
        """
