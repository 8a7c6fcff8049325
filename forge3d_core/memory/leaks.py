"""What was still reserved when its budget closed: how much, for how long, and where it was made."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable, Sequence

import attrs

from forge3d_core.memory.entry import Entry
from forge3d_core.protocols import Heap, MemoryKind
from forge3d_core.units import format_bytes

MAX_TOLD = 5
"""So many are told one by one, the largest first."""


@attrs.frozen
class Leak:
    """A reservation that was not released; ``made_at`` is the call that made it, where that is known."""

    nbytes: int
    kind: MemoryKind
    heap: Heap
    age: float  # seconds
    made_at: str

    def __str__(self) -> str:
        place = f", made at {self.made_at}" if self.made_at else ""
        return f"{format_bytes(self.nbytes)} {self.heap} for a {self.kind}, {self.age:.3g} s old{place}"


def leaks_of(entries: Iterable[Entry]) -> list[Leak]:
    """Return the leaks that the entries are; ask before they are released.

    Where they were made is known while :mod:`tracemalloc` traces (``python -X tracemalloc=8``): Python keeps
    that anyway then, and an entry need not.
    """
    now = time.monotonic()
    return [Leak(one.nbytes, one.kind, one.heap, now - one.made, _made_at(one)) for one in entries]


def told(leaks: Sequence[Leak]) -> str:
    """Return what a warning says of them."""
    total = format_bytes(sum(leak.nbytes for leak in leaks))
    largest = sorted(leaks, key=lambda leak: leak.nbytes, reverse=True)
    rest = f"; and {len(leaks) - MAX_TOLD} smaller" if len(leaks) > MAX_TOLD else ""
    advice = "" if any(leak.made_at for leak in leaks) else " (python -X tracemalloc=8 says where)"
    return (
        f"{len(leaks)} reservation(s) of {total} were not released: use with blocks{advice}: "
        + "; ".join(map(str, largest[:MAX_TOLD]))
        + rest
    )


def _made_at(entry: Entry) -> str:
    """Return the innermost call outside the core that made the reservation, or nothing."""
    reservation = entry.owner() if entry.owner is not None else None
    trace = tracemalloc.get_object_traceback(reservation) if reservation is not None else None
    if trace is None:
        return ""
    outside = [frame for frame in trace if _PACKAGE not in frame.filename.replace("\\", "/")]
    return f"{outside[-1].filename}:{outside[-1].lineno}" if outside else ""


_PACKAGE = "/forge3d_core/"
