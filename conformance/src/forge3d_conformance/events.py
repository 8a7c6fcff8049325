"""The events that a run tells of itself: JSON lines in a file, one reader and one writer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

Event = dict[str, Any]


def tell(path: Path, event: Event) -> None:
    """Append an event, whole."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(event, default=str) + "\n")


@attrs.define(eq=False)
class EventReader:
    """Reads what another process appends; a line that is not whole yet waits for its end."""

    path: Path
    _partial: str = ""
    _source: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.path.touch()
        self._source = self.path.open(encoding="utf-8")

    def read(self) -> Iterator[Event]:
        """Yield the events that have come since."""
        while line := self._source.readline():
            self._partial += line
            if not self._partial.endswith("\n"):
                return
            event: Event = json.loads(self._partial)
            self._partial = ""
            yield event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()
