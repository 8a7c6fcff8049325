"""A contestant: one way to do an operation, ours or the raw API's, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from forge3d_core.errors import UsageError


def nothing() -> None:
    """Settle what has settled by itself."""


@attrs.frozen(eq=False)
class Runner:
    """An operation with its operands made.

    ``call`` does it once and is what is timed. ``settle`` waits, untimed, for what calls left in flight.
    ``operations``: how many of the unit one call does. ``close`` gives back the operands. ``at_once``: how
    many calls may go by before it has to be settled, where one more would wait for the device.
    ``own_clock``: ``call`` returns the seconds that count, which are not those that it takes.
    """

    call: Callable[[], object]
    settle: Callable[[], object] = nothing
    operations: int = 1
    close: Callable[[], object] = nothing
    at_once: int = 4096
    own_clock: bool = False


def unknown(name: str, operation: str) -> UsageError:
    """Return the error for an operation that a contestant has not."""
    return UsageError(f"{name} has no operation {operation!r}; the rows and the contestants disagree")


class Contestant(Protocol):
    """Makes runners by the name of an operation.

    Thread-safety: one thread at a time.
    """

    @property
    def name(self) -> str: ...

    def runner(self, operation: str, nbytes: int) -> Runner:
        """Return what does ``operation`` on ``nbytes``; raises :class:`UsageError` for an unknown one."""

    def close(self) -> None: ...
