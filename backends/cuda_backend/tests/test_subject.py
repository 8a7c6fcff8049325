"""What the suite is lent: a hold, and how it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from forge3d_core.errors import DeviceLost
from forge3d_cuda.subject import Flag, SpinningLane


def hold(query: Any) -> SpinningLane:
    return SpinningLane(SimpleNamespace(query=query), None, Flag(None, np.zeros(1, np.uint32)))


def test_a_lane_is_held_until_it_is_let_go() -> None:
    with hold(lambda _token: False) as spinning:
        assert spinning.held
    assert not spinning.held
    assert not spinning.over  # the kernel has yet to see it
    assert spinning._flag.word[0] == 1


def test_a_kernel_that_gave_up_or_was_lost_holds_nothing() -> None:
    def lost(_token: object) -> bool:
        raise DeviceLost("gone")

    for query in (lambda _token: True, lost):
        assert hold(query).over
        assert not hold(query).held
