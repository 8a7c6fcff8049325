"""A timeline over a driver that the test holds."""

from __future__ import annotations

import pytest

from forge3d_core.timeline.timeline import Timeline

from .signals import Signals


@pytest.fixture
def signals() -> Signals:
    return Signals()


@pytest.fixture
def timeline(signals: Signals) -> Timeline:
    return Timeline("compute", signals)
