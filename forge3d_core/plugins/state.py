"""The states of a plugin, kept apart everywhere."""

from __future__ import annotations

from enum import Enum

import attrs

from forge3d_core.errors import (
    BackendDenied,
    BackendError,
    IncompatibleApi,
    MissingDependency,
    NoDevice,
    UnknownBackend,
)
from forge3d_core.plugins.discovery import Candidate
from forge3d_core.protocols import DeviceInfo


class State(Enum):
    """What can be said of a plugin once it has been looked at."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"  # it works, and there is no device for it
    MISSING_DEPENDENCY = "missing dependency"
    INCOMPATIBLE = "incompatible API version"
    FAILED = "failed to load"
    DENIED = "denied"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, error: BackendError) -> State:
        """Return the state that an error tells of."""
        return next((state for kind, state in _STATES if isinstance(error, kind)), cls.FAILED)


_STATES: tuple[tuple[type[BackendError], State], ...] = (
    (UnknownBackend, State.UNKNOWN),
    (BackendDenied, State.DENIED),
    (MissingDependency, State.MISSING_DEPENDENCY),
    (IncompatibleApi, State.INCOMPATIBLE),
    (NoDevice, State.UNAVAILABLE),
)


@attrs.frozen
class Status:
    """A plugin, its state, why, and what would mend it.

    ``candidates`` are the distributions that offer the name, more than one when they collide. ``fix``
    is an exact command or edit. ``cached``: this was found lately, not now.
    """

    name: str
    state: State
    candidates: tuple[Candidate, ...] = ()
    reason: str = ""
    fix: str | None = None
    devices: tuple[DeviceInfo, ...] = ()
    error: BackendError | None = attrs.field(default=None, eq=False, repr=False)
    cached: bool = attrs.field(default=False, eq=False)

    @classmethod
    def failed(
        cls, name: str, candidates: tuple[Candidate, ...], error: BackendError, *, cached: bool = False
    ) -> Status:
        """Return the status that an error tells of; its fix is set apart from its reason."""
        reason = str(error).removesuffix(f"; try: {error.fix}")
        return cls(name, State.of(error), candidates, reason, error.fix, error=error, cached=cached)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else offers the name and is not what is loaded, and installations that are hidden."""
        rivals = (f"{c}: {c.problem}" for c in self.candidates if c.problem and c.problem not in self.reason)
        hidden = (f"{c} in {c.location} hides {other}" for c in self.candidates for other in c.shadows)
        return (*rivals, *hidden)
