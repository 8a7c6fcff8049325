"""What a timeline asks of a driver."""

from __future__ import annotations

from typing import Any, Protocol


class Signals(Protocol):
    """The part of a driver that a timeline needs."""

    def query(self, token: Any) -> bool: ...

    def wait(self, token: Any, seconds: float) -> bool: ...

    def retire(self, token: Any) -> None: ...
