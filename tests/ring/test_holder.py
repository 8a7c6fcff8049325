"""Whose a slice is: a wait for one that no other thread can commit is refused, others go on."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import FenceTimeout, SliceOutstanding
from forge3d_core.ring.ring import Ring
from forge3d_core.ring.slice import Slice

from .traffic import take

NAMED: dict[str, Any] = {}


@pytest.fixture
def company(background: Callable[..., Any], patience: float) -> Iterator[None]:
    """Another thread is there, which might have any slice."""
    leave = threading.Event()
    waiting = background(leave.wait, patience)
    yield
    leave.set()
    waiting.result(patience)


class Owner:
    """A program that keeps its slice in an attribute."""

    def __init__(self, slot: Slice) -> None:
        self.slot = slot


KEPT: dict[str, Callable[[Slice], object]] = {
    "a variable": lambda slot: slot,
    "a list": lambda slot: [slot],
    "a dict": lambda slot: {"it": slot},
    "an attribute": Owner,
    "a method": lambda slot: slot.release,
    "a namespace": lambda slot: SimpleNamespace(slot=slot),
}


@pytest.mark.parametrize("how", KEPT)
@pytest.mark.parametrize("call", ["advance", "reserve", "upload"])
def test_a_slice_that_only_this_thread_has_is_refused_at_once(
    device: AssembledDevice, ring: Ring, company: None, patience: float, how: str, call: str
) -> None:
    target = device.create_buffer(16)
    kept = KEPT[how](take(ring, 64))
    calls: dict[str, Callable[[], object]] = {
        "advance": lambda: ring.advance(patience),
        "reserve": lambda: [ring.reserve(1024, patience).release() for _ in range(4)],
        "upload": lambda: ring.upload(np.zeros(16, np.uint8), target, timeout=patience),
    }
    for _ in range(2):  # looking leaves nothing behind
        with pytest.raises(
            SliceOutstanding, match="first 64 bytes at 0 of block 0, allocated by thread 'Main"
        ):
            calls[call]()
    del kept
    ring.advance(patience)


def by_queue(slot: Slice, work: Callable[[Slice], None], background: Callable[..., Any]) -> Any:
    handed: queue.Queue[Slice] = queue.Queue()
    handed.put(slot)
    return background(lambda: work(handed.get()))


def by_argument(slot: Slice, work: Callable[[Slice], None], background: Callable[..., Any]) -> Any:
    return background(work, slot)


def by_partial(slot: Slice, work: Callable[[Slice], None], background: Callable[..., Any]) -> Any:
    return background(functools.partial(work, slot))


def by_closure(slot: Slice, work: Callable[[Slice], None], background: Callable[..., Any]) -> Any:
    return background(lambda: work(slot))


def by_attribute(slot: Slice, work: Callable[[Slice], None], background: Callable[..., Any]) -> Any:
    owner = Owner(slot)
    return background(lambda: work(owner.slot))


def by_name(slot: Slice, work: Callable[[Slice], None], background: Callable[..., Any]) -> Any:
    NAMED["slot"] = slot
    return background(lambda: work(NAMED.pop("slot")))


@pytest.mark.parametrize("hand", [by_queue, by_argument, by_partial, by_closure, by_attribute, by_name])
@pytest.mark.parametrize("keep", [False, True])
def test_a_slice_that_was_handed_over_is_waited_for(
    device: AssembledDevice,
    ring: Ring,
    background: Callable[..., Any],
    until: Callable[..., None],
    patience: float,
    hand: Callable[..., Any],
    keep: bool,
) -> None:
    target = device.create_buffer(1024)
    begin = threading.Event()

    def fill(slot: Slice) -> None:
        assert begin.wait(patience)
        slot.view[:] = 7
        slot.commit(target)

    slot: Slice | None = take(ring, 1024)
    working = hand(slot, fill, background)
    slot = slot if keep else None
    others = [take(ring, 1024) for _ in range(2)]
    for other in others:
        other.commit(device.create_buffer(1024))
    with pytest.raises(FenceTimeout, match="committed nor released: 1024 bytes at 0 of block 0"):
        ring.reserve(1024, 0.01)
    begin.set()
    ring.reserve(1024, patience).release()
    working.result(patience)
    ring.advance(patience).wait(patience)
    assert (np.asarray(target.native) == 7).all()


def test_who_had_it_drops_it(ring: Ring, background: Callable[..., Any], patience: float) -> None:
    handed: queue.Queue[Slice] = queue.Queue()
    handed.put(take(ring, 64))
    dropping = background(lambda: handed.get().nbytes)
    ring.advance(patience)
    dropping.result(patience)


def test_who_had_it_has_ended(ring: Ring, background: Callable[..., Any], patience: float) -> None:
    """The slice is here, whoever allocated it: to wait would never end."""
    slot = background(take, ring, 64).result(patience)
    with pytest.raises(SliceOutstanding, match="64 bytes"):
        ring.advance(patience)
    slot.release()
    ring.advance(patience)
