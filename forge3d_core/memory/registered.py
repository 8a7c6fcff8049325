"""Memory that others made, counted with the process's own."""

from __future__ import annotations

import threading
from typing import Unpack

from forge3d_core.arguments import flag, keywords, shown
from forge3d_core.errors import UsageError
from forge3d_core.forking import renew_in_child
from forge3d_core.formats import TextureShape, texture_format
from forge3d_core.lifetime.hold import Reference
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.entry import Entry, entry_of
from forge3d_core.memory.process import global_tracker
from forge3d_core.memory.reservation import LedgerReservation
from forge3d_core.protocols import Heap, TextureExtent, TextureFormat
from forge3d_core.units import parse_bytes

UNLIMITED = 1 << 62
"""Registered memory has no budget of its own: the process's limit is what it is under."""


class _Registry:
    """The ledger of what is registered, made when it is first needed, and anew in a forked child."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None
        self._kept: dict[Reference, LedgerReservation] = {}  # by their owners

    def ledger(self) -> Ledger:
        with self._lock:
            if self._ledger is None:
                self._ledger = Ledger(UNLIMITED, process=global_tracker(), shares=False)
            return self._ledger

    def take(self, entry: Entry, owner: object) -> LedgerReservation:
        """Count an entry, until its reservation is gone, which its owner keeps as long as that lives."""
        reservation = self.ledger().take(entry)
        if owner is not None:
            kept = self._kept
            try:
                # What the end of the owner runs takes no lock: to let go of the reservation is enough.
                kept[Reference(owner, kept.pop)] = reservation
            except TypeError:
                reservation.release()
                raise UsageError(
                    f"an owner is an object that takes weak references, not {shown(owner)}"
                ) from None
        return reservation


_REGISTRY = _Registry()


def register_buffer(
    size: int | str, is_host_visible: bool = False, *, label: str = "", owner: object = None
) -> LedgerReservation:
    """Count a buffer of ``size`` bytes that forge3d did not make; it is given back with the handle.

    With an ``owner``, an object that takes weak references, it is counted until that is gone, or the handle
    released. Host-visible bytes come under the process's limit: raises a :class:`BudgetError`. Source: the
    memory management guide.
    """
    heap: Heap = "host_visible" if flag("is_host_visible", is_host_visible) else "device_local"
    return _REGISTRY.take(entry_of(parse_bytes(size), "buffer", heap, label=label), owner)


def register_texture(
    width: int,
    height: int,
    format: TextureFormat | str,
    *,
    label: str = "",
    owner: object = None,
    **extent: Unpack[TextureExtent],
) -> LedgerReservation:
    """Count a texture that forge3d did not make; see :func:`register_buffer`.

    ``depth``, ``layers``, ``mip_levels`` and ``samples`` are as for ``create_texture``.
    """
    keywords("register_texture", extent, TextureExtent.__annotations__)
    nbytes = TextureShape(width, height, **extent).nbytes(texture_format(format))
    return _REGISTRY.take(entry_of(nbytes, "texture", "device_local", label=label), owner)
