"""What a trace notes: values of one moment each, on the clock of ``time.perf_counter``, in seconds."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from time import perf_counter as now
from typing import Any, Generic, Literal, TypeVar

import attrs

from forge3d_core.driver import Command, Dispatch

Clock = Literal["device", "host", "observed"]
"""Where the begin and end of a submission come from: the device's timestamps, the thread of a lane that runs
on the host, or the moment at which the host saw it complete (then the begin is not known)."""

MAX_NAME = 60


@attrs.frozen
class Thread:
    """A thread as events name it; idents are used again, so the name goes with it."""

    ident: int
    name: str

    @classmethod
    def current(cls) -> Thread:
        thread = threading.current_thread()
        return cls(threading.get_ident(), thread.name)


@attrs.define(eq=False)
class Submission:
    """One submission. ``begun`` and ``ended`` stay None where the device does not tell."""

    device: int
    lane: str
    value: int
    thread: Thread
    called: float
    returned: float
    what: str
    nbytes: int
    kernels: bool
    after: tuple[tuple[str, int], ...]
    blocks: tuple[tuple[str, int], ...]  # (direction, number) of the host blocks that it names
    seen: float | None = None  # when the host saw it complete
    begun: float | None = None
    ended: float | None = None
    clock: Clock = "observed"
    error: str = ""  # what the call raised


@attrs.frozen
class Wait:
    """A thread that waited for a value of a lane, with what it raised."""

    device: int
    lane: str
    value: int
    thread: Thread
    begun: float
    ended: float
    error: str = ""


@attrs.frozen
class HostCopy:
    """Bytes that a thread copied between host arrays."""

    thread: Thread
    begun: float
    ended: float
    nbytes: int


E = TypeVar("E")


class Kept(Generic[E]):
    """The newest ``most`` events, and how many there were. Any thread adds, without a lock."""

    def __init__(self, most: int) -> None:
        self._events: deque[tuple[int, E]] = deque(maxlen=most)
        self._numbers = itertools.count(1)

    def add(self, event: E) -> None:
        self._events.append((next(self._numbers), event))

    def all(self) -> tuple[list[E], int]:
        """Return the events that are kept, oldest first, and how many were dropped."""
        numbered = sorted(self._snapshot(), key=lambda one: one[0])
        total = numbered[-1][0] if numbered else 0
        return [event for _, event in numbered], total - len(numbered)

    def _snapshot(self) -> list[tuple[int, E]]:
        while True:
            try:
                return list(self._events)
            except RuntimeError:  # another thread added one meanwhile
                continue


def describe(commands: Sequence[Command]) -> tuple[str, int, bool]:
    """Return a submission's commands in a few words, the bytes that they copy, and whether kernels run."""
    counts: dict[str, int] = {}
    nbytes = 0
    kernels = False
    for command in commands:
        if isinstance(command, Dispatch):
            kernels, name = True, str(command.kernel.source.name)
        else:
            name = _NAMES.get(type(command).__name__, type(command).__name__)
            nbytes += getattr(command, "nbytes", 0)
            if (pitch := getattr(command, "row_pitch", None)) is not None:
                nbytes += pitch * command.size[1]  # type: ignore[union-attr]
        counts[name] = counts.get(name, 0) + 1
    words = [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
    text = ", ".join(words) or "nothing"
    return (text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…"), nbytes, kernels


_NAMES = {
    "Upload": "upload",
    "UploadRows": "upload rows",
    "Download": "download",
    "DownloadRows": "download rows",
    "Copy": "copy",
    "Fill": "fill",
}


def blocks_of(commands: Sequence[Command]) -> list[tuple[str, Any]]:
    """Return the host blocks that commands name, each once, with their direction."""
    found: dict[int, tuple[str, Any]] = {}
    for command in commands:
        block = getattr(command, "block", None)
        if block is not None:
            direction = "upload" if type(command).__name__.startswith("Upload") else "readback"
            found.setdefault(id(block), (direction, block))
    return list(found.values())


__all__ = ["Clock", "HostCopy", "Kept", "Submission", "Thread", "Wait", "blocks_of", "describe", "now"]
