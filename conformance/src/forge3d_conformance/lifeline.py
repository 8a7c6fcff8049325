"""A pipe by which a process knows that the one that began it is gone, however that ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ORPHANED = 3
"""The exit status of a process that nobody waits for any more."""


@contextmanager
def lifeline() -> Iterator[tuple[int, ...]]:
    """Yield the end of a pipe for another process to hold, whose other end goes with this one.

    None on Windows, where a process inherits no descriptors by number.
    """
    if os.name != "posix":
        yield ()
        return
    theirs, ours = os.pipe()
    try:
        yield (theirs,)
    finally:
        os.close(theirs)
        os.close(ours)


def end_with(lifeline: int) -> None:
    """End this process when the other end of its lifeline is gone: nobody is left to be told anything."""

    def watch() -> None:
        os.read(lifeline, 1)  # nothing is ever written
        os._exit(ORPHANED)

    threading.Thread(target=watch, name="forge3d-conformance-lifeline", daemon=True).start()
