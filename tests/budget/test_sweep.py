"""Memory on its way back: by one thread at a time, found by all, lost by none."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import forge3d_core.memory.allocator
import forge3d_core.memory.budget
from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.driver import Direction
from forge3d_core.errors import BudgetExhausted, Closed
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.lifetime.hold import Hold
from forge3d_core.memory.allocation import note_uses
from forge3d_core.memory.allocator import Allocator, Owned
from forge3d_core.protocols import DeviceOptions

from ..interrupts import everywhere

UNDER_TEST = (forge3d_core.memory.allocator, forge3d_core.memory.budget, threading)
BLOCK = 4096
LIMIT = 4 * BLOCK


class Watched(HostDriver):
    """Notes what it freed, and does what a test wants while it frees. ``busy``: it cannot let go now."""

    def __init__(self) -> None:
        super().__init__(HostMachine())
        self.freed: list[Any] = []
        self.during_free: Callable[[], object] = lambda: None
        self.busy = False

    def free(self, native: Any) -> bool | None:
        if self.busy:
            return False
        self.during_free()
        self.freed.append(native)
        return None  # as drivers do that know nothing of "not yet"


@pytest.fixture
def driver() -> Watched:
    return Watched()


@pytest.fixture
def device(driver: Watched) -> Iterator[AssembledDevice]:
    with assemble(driver, DeviceOptions(budget=LIMIT)) as opened:
        yield opened


@pytest.fixture
def allocator(device: AssembledDevice) -> Allocator:
    return device.allocator


class Stop:
    """Stops the first thread that frees in the middle of it."""

    def __init__(self, driver: Watched, patience: float) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._patience = patience
        driver.during_free = self

    def __call__(self) -> None:
        if not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(self._patience)


def charged(device: AssembledDevice) -> int:
    return device.budget.metrics().host_visible_bytes


@pytest.mark.parametrize("ask", ["reserve", "block", "metrics"])
def test_what_another_thread_is_just_giving_back_is_waited_for(
    device: AssembledDevice,
    allocator: Allocator,
    driver: Watched,
    background: Callable[..., Any],
    until: Callable[..., None],
    patience: float,
    ask: str,
) -> None:
    """One is in the middle of freeing all there is; the other wants it, and must not be refused."""
    stop = Stop(driver, patience)
    for block in [allocator.block(BLOCK, "upload") for _ in range(4)]:
        allocator.drop(block)
    monitor = background(device.budget.metrics)
    assert stop.reached.wait(patience)
    asked: dict[str, Callable[[], Any]] = {
        "reserve": lambda: device.budget.reserve(LIMIT),
        "block": lambda: allocator.block(LIMIT, "upload"),
        "metrics": device.budget.metrics,
    }
    other = background(asked[ask])
    until(lambda: other.done() or len(allocator._swept._waiters) == 1)  # type: ignore[attr-defined]
    stop.go_on.set()
    got = other.result(patience)
    assert monitor.result(patience).host_visible_bytes in (0, LIMIT)
    if ask == "reserve":
        got.release()
    elif ask == "block":
        allocator.release(got)
    else:
        assert got.host_visible_bytes == 0
    assert device.budget.metrics().refusals == 0
    assert charged(device) == 0


def test_what_another_thread_has_reclaimed_is_found(
    driver: Watched, background: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """One has just got a pool's idle block, larger than it needs, and has not given it back yet."""
    device = assemble(driver, DeviceOptions(budget=LIMIT))
    stop, real = Stop(driver, patience), Allocator.release

    def release(self: Allocator, owned: Owned) -> None:
        stop()
        real(self, owned)

    with device, device.readback_pool(max_pending_ops=1, buffer_size=LIMIT):
        driver.during_free = lambda: None
        monkeypatch.setattr(Allocator, "release", release)
        first = background(device.budget.reserve, BLOCK)
        assert stop.reached.wait(patience)
        second = background(device.budget.reserve, BLOCK)
        second.result(patience).release()
        stop.go_on.set()
        first.result(patience).release()


def test_a_finalizer_closes_under_our_own_lock_without_waiting(
    device: AssembledDevice,
    allocator: Allocator,
    driver: Watched,
    background: Callable[..., Any],
    patience: float,
) -> None:
    """The collector may run it on a thread that holds a lock which the pass of another wants next."""
    stop = Stop(driver, patience)
    first, second = allocator.block(BLOCK, "upload"), device.create_buffer(64)
    allocator.drop(first)
    monitor = background(device.budget.metrics)
    assert stop.reached.wait(patience)

    def finalize() -> None:
        with device.budget._lock, allocator._lock:
            second.close()

    background(finalize).result(patience)
    stop.go_on.set()
    monitor.result(patience)
    assert device.budget.metrics().total_bytes == 0
    assert len(driver.freed) == 2


def test_a_pass_within_a_pass(device: AssembledDevice, allocator: Allocator, driver: Watched) -> None:
    """A finalizer that the collector runs while a thread frees may call anything."""
    blocks = [allocator.block(BLOCK, "upload") for _ in range(2)]
    buffers = [device.create_buffer(64) for _ in range(3)]

    def finalize() -> None:
        if buffers:
            buffers.pop().close()
        device.budget.metrics()
        device.budget.reserve(BLOCK).release()

    driver.during_free = finalize
    for block in blocks:
        allocator.drop(block)
    allocator.sweep()
    assert charged(device) == 0
    device.budget.metrics()
    assert device.budget.metrics().total_bytes == 0
    assert len(driver.freed) == len({id(native) for native in driver.freed}) == 5


def test_an_interrupt_while_one_is_freed_loses_none(
    device: AssembledDevice, allocator: Allocator, driver: Watched
) -> None:
    def interrupt() -> None:
        driver.during_free = lambda: None
        raise KeyboardInterrupt

    driver.during_free = interrupt
    for block in [allocator.block(BLOCK, "upload") for _ in range(4)]:
        allocator.drop(block)
    with pytest.raises(KeyboardInterrupt):
        device.budget.metrics()
    assert charged(device) == 0
    assert len(driver.freed) == 4


def test_an_interrupt_anywhere_while_memory_goes_back(
    device: AssembledDevice,
    allocator: Allocator,
    driver: Watched,
    background: Callable[..., Any],
    patience: float,
) -> None:
    blocks: list[Owned] = []

    def give_back() -> None:
        note_uses(device.idle_point("upload"), [], [blocks[0].allocation])
        allocator.drop(blocks[1])
        allocator.release(blocks[0])
        allocator.sweep()

    blocks += [allocator.block(BLOCK, "upload") for _ in range(2)]
    for point in everywhere(give_back, *UNDER_TEST):
        for block in blocks:
            allocator.drop(block)  # whoever was interrupted says so again
        assert background(charged, device).result(patience) == 0, f"interrupted at point {point}"
        assert {id(native) for native in driver.freed} == {id(block.allocation.native) for block in blocks}
        assert (allocator._sweeper, allocator._live, allocator._dropped) == (None, set(), {})
        blocks[:] = [allocator.block(BLOCK, "upload") for _ in range(2)]
        driver.freed.clear()


@pytest.mark.parametrize("busy", [False, True])
def test_an_interrupt_anywhere_while_memory_is_taken(
    device: AssembledDevice, allocator: Allocator, driver: Watched, busy: bool
) -> None:
    """``busy``: it is taken over from a block that rests."""

    def rest() -> None:
        driver.busy = busy
        allocator.release(allocator.block(BLOCK, "upload"))

    taken: list[Owned] = []
    rest()
    for point in everywhere(lambda: taken.append(allocator.block(BLOCK, "upload")), *UNDER_TEST):
        taken.clear()  # one that the interrupt kept from its owner is gone by itself
        driver.busy = False
        gc.collect(0)
        assert charged(device) == 0, f"interrupted at point {point}"
        rest()
    for block in taken:
        allocator.release(block)
    driver.busy = False


def test_an_interrupted_pin_pins_nothing(allocator: Allocator) -> None:
    blocks = [allocator.block(BLOCK, "upload") for _ in range(2)]
    allocations = [block.allocation for block in blocks]
    for point in everywhere(lambda: allocator.pin(allocations, Hold()), *UNDER_TEST):
        assert not any(one.pins for one in allocations), f"interrupted at point {point}"
    gone, other = blocks
    allocator.release(gone)
    user = Hold()
    with pytest.raises(Closed, match="given back"):
        allocator.pin([other.allocation, gone.allocation], user)
    assert not other.allocation.pins
    allocator.release(other)


def test_passes_that_follow_each_other_hold_nobody_up(
    allocator: Allocator, background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    """The second from now has begun after the call, and has done what there was to do."""
    allocator.drop(allocator.block(BLOCK, "upload"))
    allocator._sweeper = -1  # always one of them
    waiting = background(allocator.sweep)
    for _ in range(2):
        until(lambda: len(allocator._swept._waiters) == 1)  # type: ignore[attr-defined]
        assert not waiting.done()
        with allocator._lock:
            allocator._passes += 1
            allocator._swept.notify_all()
    waiting.result(patience)
    allocator._sweeper = None


def test_a_pass_that_never_ends_is_not_waited_for_for_ever(
    allocator: Allocator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forge3d_core.memory.allocator, "SWEEP_SECONDS", 0.001)
    allocator.drop(allocator.block(BLOCK, "upload"))
    allocator._sweeper = -1
    allocator.sweep()
    allocator._sweeper = None


def test_memory_that_the_driver_cannot_let_go_of_stays_charged(
    device: AssembledDevice, allocator: Allocator, driver: Watched
) -> None:
    buffer, block = device.create_buffer(64), allocator.block(BLOCK, "upload")
    driver.busy = True
    buffer.close()
    allocator.release(block)
    assert device.budget.metrics().total_bytes == 64 + BLOCK
    with pytest.raises(BudgetExhausted):
        device.budget.reserve(LIMIT)
    with pytest.raises(Closed, match="given back"):
        allocator.pin([block.allocation], Hold())
    driver.busy = False
    device.budget.reserve(LIMIT).release()
    assert device.budget.metrics().total_bytes == 0
    assert len(driver.freed) == 2


def test_a_block_that_rests_serves_the_next_that_is_like_it(
    device: AssembledDevice, allocator: Allocator, driver: Watched
) -> None:
    old = [allocator.block(BLOCK, "upload") for _ in range(4)]
    natives = {id(block.allocation.native) for block in old}
    for block in old:
        block.allocation.native.view()[:] = 7
    driver.busy = True
    for block in old:
        allocator.release(block)
    others: tuple[tuple[int, Direction], ...] = ((BLOCK, "readback"), (BLOCK // 2, "upload"))
    for nbytes, direction in others:
        with pytest.raises(BudgetExhausted):
            allocator.block(nbytes, direction)
    new = [allocator.block(BLOCK, "upload") for _ in range(4)]
    assert {id(block.allocation.native) for block in new} == natives
    assert not any(np.any(block.allocation.native.view()) for block in new), "a block shows old bytes"
    assert charged(device) == LIMIT
    driver.busy = False
    for block in old:
        allocator.release(block)  # dropped twice: it is somebody else's by now
    assert charged(device) == LIMIT
    assert not driver.freed
    for block in new:
        allocator.release(block)
    assert charged(device) == 0
    assert {id(native) for native in driver.freed} == natives


def test_a_block_that_rests_and_cannot_be_zeroed_serves_no_other(
    allocator: Allocator, driver: Watched
) -> None:
    """The view of a readback block is read-only here, as drivers may have it."""
    old = allocator.block(BLOCK, "readback")
    driver.busy = True
    allocator.release(old)
    new = allocator.block(BLOCK, "readback")
    assert new.allocation.native is not old.allocation.native
    driver.busy = False
    allocator.release(new)


def test_a_ring_after_a_ring_on_a_driver_that_is_busy(device: AssembledDevice, driver: Watched) -> None:
    """Each of them takes the whole budget, and the bytes arrive."""
    target = device.create_buffer(BLOCK)
    driver.busy = True
    for value in range(5):
        with device.staging_ring(ring_count=4, buffer_size=BLOCK) as ring:
            ring.upload(np.full(BLOCK, value, np.uint8), target).wait(20)
        assert (target.native == value).all()
    device.wait_idle(20)
    assert charged(device) == LIMIT
    driver.busy = False
    assert charged(device) == 0


def test_a_device_closes_with_memory_at_rest(driver: Watched) -> None:
    device = assemble(driver)
    driver.busy = True
    device.allocator.release(device.allocator.block(BLOCK, "upload"))
    device.close()
    assert charged(device) == 0
