"""What is reserved: how much, for what, for how long, and where it was made."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable, Sequence

from forge3d_core.memory.entry import Entry
from forge3d_core.protocols import Holding
from forge3d_core.units import format_bytes

MAX_TOLD = 5
"""So many are told one by one, the largest first."""

_PACKAGE = "/forge3d_core/"


def holdings_of(entries: Iterable[Entry]) -> list[Holding]:
    """Return what the entries are, the largest first; ask before they are released.

    Where they were made is known while :mod:`tracemalloc` traces: Python keeps that anyway then, and an entry
    need not.
    """
    now = time.monotonic()
    found = [
        Holding(one.nbytes, one.use, one.heap, one.label, now - one.made, _made_at(one)) for one in entries
    ]
    return sorted(found, key=lambda holding: holding.nbytes, reverse=True)


def leaks_told(leaks: Sequence[Holding]) -> str:
    """Return what a warning says of what was not released."""
    total = format_bytes(sum(leak.nbytes for leak in leaks))
    rest = f"; and {len(leaks) - MAX_TOLD} smaller" if len(leaks) > MAX_TOLD else ""
    advice = "" if any(leak.made_at for leak in leaks) else " (python -X tracemalloc=8 says where)"
    return (
        f"{len(leaks)} reservation(s) of {total} were not released: use with blocks{advice}: "
        + "; ".join(map(repr, leaks[:MAX_TOLD]))
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
