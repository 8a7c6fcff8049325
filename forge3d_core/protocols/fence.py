"""Timelines and points: how anybody learns that the device has finished."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Timeline(Protocol):
    """A number that only grows, one for each submission to a lane, as the work really completes.

    Contract
        ``completed`` never decreases and never runs ahead of the device: a value counts once the
        device has finished that submission and its writes are visible, not when it was submitted.
        ``submitted`` is the value of the newest submission; values start at 1 and have no gaps.

        The first failure sticks: every value that is not complete by then raises it, now and later;
        values that were complete stay complete. ``completed`` does not block.

    Thread-safety: everything may be called from any thread.
    """

    @property
    def name(self) -> str:
        """The lane's name."""

    @property
    def submitted(self) -> int:
        """The value of the newest submission, 0 before the first."""

    @property
    def completed(self) -> int:
        """The highest value that is complete; asks the device, and never blocks."""

    @property
    def failure(self) -> Exception | None:
        """The first failure, which every later value raises, or None."""

    def point(self, value: int) -> FencePoint:
        """Return the point at ``value``, which may lie in the future."""


@runtime_checkable
class FencePoint(Protocol):
    """One value of one timeline.

    Contract
        Waiting for a value that nobody has submitted yet is legal and wakes when it completes. A
        value already passed costs no driver call. A wait burns no core. Any number of threads and
        coroutines may wait for the same point.
    """

    @property
    def timeline(self) -> Timeline:
        """The timeline that it is a value of."""

    @property
    def value(self) -> int:
        """The value: the number of a submission of that lane."""

    @property
    def done(self) -> bool:
        """Whether the work is complete; never blocks, and raises nothing: a failed point is not done."""

    def wait(self, timeout: float | None = None) -> None:
        """Block until the work is complete.

        ``timeout`` in seconds, as everywhere: None, infinity and what is too far away wait for ever, 0 and
        less only look. Raises :class:`UsageError` for nan and what is no number, :class:`FenceTimeout`,
        naming the lane and what is outstanding, and the timeline's failure if it has one
        (:class:`DeviceLost`, :class:`KernelError`, :class:`Closed`).
        """

    def on_done(self, callback: Callable[[FencePoint, Exception | None], None]) -> None:
        """Call ``callback(point, error)`` exactly once, on any thread, as soon as the point is settled.

        ``error`` is None when the work is complete. The callback must return quickly and not raise.
        Raises :class:`StateError` where no thread can be started to call back from. A timeline may have
        ``forget(callback)``, which takes a callback back that was not called yet: whoever gives up
        waiting (a cancelled coroutine, ``wait_any`` after its first point) leaves nothing behind there.
        """

    def __await__(self) -> Generator[Any, None, None]:
        """Wait without blocking the running loop, of asyncio or trio; raises as ``wait`` does."""
