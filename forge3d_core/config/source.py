"""Where a setting comes from, so that whoever wonders can be told the line."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import attrs

from forge3d_core.config.settings import Settings

Origin = Literal["argument", "environment", "project", "user", "default"]


@attrs.frozen
class Source:
    """An argument, a variable, or a line of a file, with its text."""

    origin: Origin
    text: str = ""
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.path is None:
            return f"{self.origin} {self.text}".strip()
        place = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{place}: {self.text}" if self.text else place


@attrs.frozen
class Choice:
    """One setting as one source has it."""

    key: str
    value: Any
    source: Source


@attrs.frozen
class Layer:
    """The settings of one source; ``locate`` tells where in it a key stands."""

    origin: Origin
    settings: Settings
    locate: Callable[[str], Source] = attrs.field(eq=False, repr=False)

    def choice(self, key: str) -> Choice | None:
        """Return what this source says on ``key`` (``"plugins.deny"``), or None."""
        value = reduce(getattr, key.split("."), self.settings)
        return None if value is None else Choice(key, value, self.locate(key))
