"""A driver whose tokens complete when the test says so."""

from __future__ import annotations

import threading

import attrs

from forge3d_core.timeline.timeline import Timeline


@attrs.define(eq=False)
class Token:
    done: threading.Event = attrs.field(factory=threading.Event)
    entered: threading.Event = attrs.field(factory=threading.Event)  # somebody waits in the driver
    error: Exception | None = None
    retired: int = 0

    def finish(self, error: Exception | None = None) -> None:
        self.error = error
        self.done.set()


@attrs.define(eq=False)
class Signals:
    """A driver whose tokens complete when the test says so. ``patient``: it overstays its leash."""

    patient: bool = False
    calls: list[str] = attrs.field(factory=list)

    def query(self, token: Token) -> bool:
        self.calls.append("query")
        return self._answer(token)

    def wait(self, token: Token, seconds: float) -> bool:
        self.calls.append("wait")
        token.entered.set()
        token.done.wait(20.0 if self.patient else seconds)
        return self._answer(token)

    def retire(self, token: Token) -> None:
        token.retired += 1

    def _answer(self, token: Token) -> bool:
        if token.error is not None:
            raise token.error
        return token.done.is_set()


def submit(timeline: Timeline, count: int = 1) -> list[Token]:
    tokens = [Token() for _ in range(count)]
    for token in tokens:
        timeline.enqueue(lambda token=token: token)
    return tokens
