"""Hearing of every device that a program opens: for ``forge3d trace``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from forge3d_core.protocols import Device

Observer = Callable[[Device], None]

_observers: list[Observer] = []


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Call ``observer`` with each device that is opened or adopted in a ``with`` block, on its thread."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def observe(device: Device) -> None:
    """Tell the observers of a device that is open."""
    for observer in tuple(_observers):
        observer(device)
