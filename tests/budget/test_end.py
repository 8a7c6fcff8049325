"""A budget whose device has closed: nobody gets anything any more, and what there was can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.errors import Closed
from forge3d_core.memory.budget import Ledger

ENDED = Closed("device 'here' was closed")


def test_whatever_would_change_it_says_why_not(ledger: Ledger) -> None:
    held = ledger.reserve(30)
    ledger.end(ENDED)
    calls: list[Callable[[], object]] = [
        lambda: ledger.reserve(1),
        lambda: ledger.reserve(1, heap="device_local"),
        lambda: ledger.reserve(1, timeout=None),
        lambda: ledger.check(1),
        lambda: ledger.set_limit(1000),
        lambda: ledger.add_reclaimer(lambda _nbytes: 0),
        lambda: ledger.on_watermark(0.5, print),
    ]
    for call in calls:
        with pytest.raises(Closed, match="'here' was closed") as caught:
            call()
        assert caught.value is not ENDED  # raised on many threads, one instance would share a traceback
    assert (ledger.limit, ledger.metrics().host_visible_bytes, ledger.metrics().refusals) == (100, 30, 0)
    assert [leak.nbytes for leak in ledger.close()] == [30]
    held.release()
    assert ledger.metrics().total_bytes == 0


def test_who_waits_is_told_and_takes_nothing(
    ledger: Ledger, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    ledger.reserve(10).release()
    held = ledger.reserve(100)
    waiting = [background(ledger.reserve, nbytes, timeout=None) for nbytes in (50, 60)]
    until(lambda: len(ledger._waiting) == 2)
    ledger.end(ENDED)
    held.release()
    for one in waiting:
        with pytest.raises(Closed):
            one.result(patience)
    assert ledger.metrics().total_bytes == 0
    assert not ledger._waiting
