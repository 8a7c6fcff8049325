"""A ledger of 100 bytes."""

from __future__ import annotations

import pytest

from forge3d_core.memory.budget import Ledger


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(100)
