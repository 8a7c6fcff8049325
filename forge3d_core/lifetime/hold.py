"""Uses of memory, known by weak reference: those of an interrupted call end with its frames."""

from __future__ import annotations

import weakref
from typing import Any

Users = set[weakref.ref[Any]]


class Hold:
    """Stands for one use of memory, by a call or by a copy that waits; the use is over when it is gone."""

    __slots__ = ("__weakref__",)


class Reference(weakref.ref[Any]):
    """A weak reference that equals itself alone, whatever it refers to, alive or gone. All of it is C."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


def note(users: Users, user: object) -> None:
    """Have ``users`` contain ``user`` while it is alive; what takes it out is C, and cannot be cut short."""
    users.add(weakref.ref(user, users.discard))


def strike(users: Users, user: object) -> None:
    """Take out ``user``, which goes on living."""
    users.discard(weakref.ref(user))
