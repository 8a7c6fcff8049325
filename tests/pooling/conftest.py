"""A clock that stands still until it is set, and a device of a stranger."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forge3d_core.protocols import Device

STRANGER = Path(__file__).parents[1] / "third_party" / "src"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["ours", "a stranger's"])
def any_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Return a device that the core assembled, and one that shares no code with it."""
    if request.param == "ours":
        opened: Any = request.getfixturevalue("device")
        yield opened
        return
    monkeypatch.syspath_prepend(str(STRANGER))
    from stranger.plugin import StrangerBackend

    with StrangerBackend().open() as device:
        yield device
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]
