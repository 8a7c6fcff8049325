"""Memory that others made, counted with the process's own."""

from __future__ import annotations

import threading

from forge3d_core.arguments import flag
from forge3d_core.forking import renew_in_child
from forge3d_core.formats import texture_bytes, texture_format
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.process import global_tracker
from forge3d_core.memory.reservation import LedgerReservation
from forge3d_core.protocols import TextureFormat
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

    def ledger(self) -> Ledger:
        with self._lock:
            if self._ledger is None:
                self._ledger = Ledger(UNLIMITED, process=global_tracker(), shares=False)
            return self._ledger


_REGISTRY = _Registry()


def register_buffer(size: int | str, is_host_visible: bool = False) -> LedgerReservation:
    """Count a buffer of ``size`` bytes that forge3d did not make; it is given back with the handle.

    Host-visible bytes come under the process's limit: raises a :class:`BudgetError`. Source: the memory
    management guide.
    """
    heap = "host_visible" if flag("is_host_visible", is_host_visible) else "device_local"
    return _REGISTRY.ledger().reserve(parse_bytes(size), kind="buffer", heap=heap)  # type: ignore[arg-type]


def register_texture(width: int, height: int, format: TextureFormat | str) -> LedgerReservation:
    """Count a texture that forge3d did not make; it is given back with the handle."""
    nbytes = texture_bytes(width, height, texture_format(format))
    return _REGISTRY.ledger().reserve(nbytes, kind="texture", heap="device_local")
