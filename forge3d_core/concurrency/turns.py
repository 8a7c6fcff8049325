"""Coroutines that take turns."""

from __future__ import annotations

from collections import deque
from typing import Self

from forge3d_core.concurrency.loops import Outcome, outcome


class Turns:
    """``async with turns``: one coroutine at a time, first come, first served, under asyncio and trio.

    Thread-safety: the coroutines of one loop. One that is cancelled in the line leaves it; one that is
    cancelled as its turn has come hands it on.
    """

    __slots__ = ("_line", "_taken")

    def __init__(self) -> None:
        self._taken = False
        self._line: deque[Outcome] = deque()

    async def __aenter__(self) -> Self:
        if not self._taken:
            self._taken = True
            return self
        mine = outcome()
        self._line.append(mine)
        try:
            await mine.over()
        except BaseException:
            if mine in self._line:
                self._line.remove(mine)
            else:
                self._pass_on()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        if self._line:
            self._line.popleft().settle(None)
        else:
            self._taken = False
