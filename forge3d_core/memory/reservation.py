"""What a caller holds of a budget."""

from __future__ import annotations

from typing import Protocol, Self

import attrs

from forge3d_core import protocols
from forge3d_core.memory.entry import Entry
from forge3d_core.presentation import line, presents
from forge3d_core.protocols import Heap, MemoryKind
from forge3d_core.units import format_bytes


class Tracker(Protocol):
    """The budget that it is of."""

    def grant(self, entry: Entry) -> None: ...

    def release(self, entry: Entry) -> None: ...


@presents(protocols.Reservation)
@attrs.define(eq=False)
class LedgerReservation:
    """See :class:`forge3d_core.protocols.Reservation`. Dropped unreleased, it gives back when collected."""

    _tracker: Tracker
    _entry: Entry

    @property
    def nbytes(self) -> int:
        return self._entry.nbytes

    @property
    def kind(self) -> MemoryKind:
        return self._entry.kind

    @property
    def heap(self) -> Heap:
        return self._entry.heap

    @property
    def released(self) -> bool:
        return not self._entry.held

    def __repr__(self) -> str:
        entry = self._entry
        what = f"reservation of {format_bytes(entry.nbytes)} {entry.heap} for a {entry.kind}"
        return line(what, "" if entry.held else "released")

    def grant(self) -> None:
        """See :meth:`Ledger.grant`."""
        self._tracker.grant(self._entry)

    def release(self) -> None:
        self._tracker.release(self._entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()
