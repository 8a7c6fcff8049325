"""A forked child: the locks of the process that threads of the parent may have held, and their imports.

A fork copies one thread. A lock that another held stays held in the child, and a module that another was
importing stays half imported, with a lock of the interpreter's on it. What belongs to a device is the
parent's, and refuses; what belongs to the process is made anew here.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import weakref
from typing import Any, Protocol


class Owner(Protocol):
    """What has a lock of the process's: one that belongs to no device."""

    def renew(self) -> None:
        """Put fresh locks in the place of those that nobody is left to release."""


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def renew_in_child(owner: Owner) -> None:
    """Have ``owner`` renewed in every forked child, for as long as it lives."""
    _owners.add(owner)


def _renew_all() -> None:
    _forget_unfinished_imports()
    for owner in tuple(_owners):
        owner.renew()


def _forget_unfinished_imports() -> None:
    """Let the child import afresh what another thread was importing; it would wait for that for ever."""
    locks: dict[str, Any] = getattr(getattr(importlib, "_bootstrap", None), "_module_locks", {})
    for name, reference in tuple(locks.items()):
        lock = reference()
        if lock is not None and getattr(lock, "owner", None) not in (None, threading.get_ident()):
            del locks[name]
            if getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False):
                del sys.modules[name]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
