"""One attribute says whether a device, and what was made from it, can be used."""

from __future__ import annotations

import gc

import pytest

from forge3d_core.errors import Closed, DeviceLost, Forked
from forge3d_core.lifetime.life import Life
from tests.fork import complaints_of_a_child


def life() -> Life:
    return Life(Forked("of the parent"))


def test_a_life_can_be_used_until_it_ends() -> None:
    one = life()
    one.check()
    one.end(DeviceLost("gone"))
    with pytest.raises(DeviceLost, match="gone") as raised:
        one.check()
    assert raised.value is not one.ended  # each caller has an error of its own


@pytest.mark.parametrize(
    ("reasons", "kept"),
    [
        ([Closed("a"), DeviceLost("b")], "a"),
        ([DeviceLost("a"), Closed("b")], "b"),
        ([DeviceLost("a"), DeviceLost("b")], "a"),
        ([Closed("a"), Closed("b")], "a"),
    ],
)
def test_a_close_replaces_a_loss(reasons: list[Exception], kept: str) -> None:
    one = life()
    for reason in reasons:
        one.end(reason)
    assert str(one.ended) == kept


def test_what_is_below_ends_with_it_or_before() -> None:
    device = life()
    ring, pool = device.below(), device.below()
    ring.end(Closed("the ring"))
    assert device.ended is pool.ended is None
    device.end(DeviceLost("gone"))
    assert isinstance(ring.ended, DeviceLost)
    assert isinstance(pool.ended, DeviceLost)
    assert isinstance(device.below().ended, DeviceLost)


def test_what_is_gone_is_not_kept() -> None:
    device = life()
    ring = device.below()
    del ring
    gc.collect()
    device.end(Closed("the device"))
    assert not device._below


def test_a_forked_child_has_none_alive() -> None:
    open_one, closed = life(), life()
    ring = open_one.below()
    closed.end(Closed("before"))

    assert not complaints_of_a_child([open_one.check, closed.check, ring.check], [], [], patience=30.0)
    open_one.check()
