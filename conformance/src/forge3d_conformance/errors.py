"""What can go wrong with a report, in forge3d's own tree."""

from __future__ import annotations

from forge3d_core.errors import ForgeError, UsageError


class CatalogueError(ForgeError, ValueError):
    """The catalogue's own data is wrong; the message names the file and the clause."""


class UnknownClause(UsageError, LookupError):
    """The catalogue holds no clause of that name."""


class EmptySelection(UsageError):
    """A run would test nothing; the message says why, and what to ask for."""


class ReportError(ForgeError, ValueError):
    """A report cannot be made, read or believed; the message says why."""


class SetupError(ForgeError):
    """The run cannot begin; the message says why."""
