"""Drivers that are left at work, and let go of after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from forge3d_core.lifetime import deferred_close as leftover
from forge3d_core.lifetime.deferred_close import close_deferred

from .busy import Busy


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have left is not looked at."""
    monkeypatch.setattr(leftover, "_left", [])


@pytest.fixture
def drivers() -> Iterator[Callable[[], Busy]]:
    made: list[Busy] = []

    def make() -> Busy:
        made.append(Busy())
        return made[-1]

    yield make
    for driver in made:
        driver.busy, driver.then = False, lambda: None
    close_deferred()
    for left in leftover._left:
        left.ended = True  # what a test was after may keep one for good
    close_deferred()
    assert leftover._left == []


@pytest.fixture
def driver(drivers: Callable[[], Busy]) -> Busy:
    return drivers()
