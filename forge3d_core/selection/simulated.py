"""Running a program on the simulator, whatever backend it asks for: for ``forge3d simulate`` alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_selector: list[str] = []


@contextlib.contextmanager
def simulated(selector: str) -> Iterator[None]:
    """Have every ``open_device`` of a ``with`` block open ``selector``, on any thread."""
    _selector.append(selector)
    try:
        yield
    finally:
        _selector.pop()


def simulator() -> str | None:
    """Return what to open instead of what a program asks for, None where it is not simulated."""
    return _selector[-1] if _selector else None
