"""The end of a device: closed, dropped, or never quite opened."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.errors import Closed, DriverError, UsageError
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.lifetime import teardown as closing
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.lifetime.teardown import Teardown
from forge3d_core.memory.allocator import Allocator
from forge3d_core.memory.budget import Ledger
from forge3d_core.protocols import DeviceOptions, KernelSource
from forge3d_core.readback.pool import Pool
from forge3d_core.ring.ring import Ring
from forge3d_core.timeline.timeline import Timeline
from forge3d_core.transfer.transfers import Transfers

from ..interrupts import interrupters
from .uses import uses


def test_every_use_after_close_says_so(device: AssembledDevice) -> None:
    calls = uses(device)
    device.close()
    device.close()
    assert device.closed
    assert "closed" in repr(device)
    for call in calls:
        with pytest.raises(Closed):
            call()
    metrics = device.budget.metrics()
    assert (metrics.total_bytes, metrics.buffer_count, metrics.texture_count) == (0, 0, 0)


def test_closing_children_after_their_device_is_quiet(device: AssembledDevice) -> None:
    buffer, ring, pool = device.create_buffer(64), device.staging_ring(), device.readback_pool()
    slot = ring.allocate(8)
    handle = pool.read(buffer)
    device.close()
    assert slot is not None
    for child in (slot.release, ring.close, pool.close, handle.cancel, buffer.close):
        child()
    assert buffer.closed
    assert ring.stats().allocations == 1
    assert pool.stats().total_operations == 1


def test_close_wakes_who_waits_and_lets_submitted_work_end(
    open_device: Callable[..., AssembledDevice], background: Callable[..., Any], patience: float
) -> None:
    device = open_device()
    buffer = device.create_buffer(4)
    native = buffer.native
    device.native.hold("compute")
    point = device.submit(device.command_list().fill(buffer, 6))
    waiting = [background(point.wait), background(device.lanes["upload"].timeline.point(3).wait)]
    told: list[Any] = []
    over = threading.Event()
    point.on_done(lambda _point, error: (told.append(error), over.set()))
    device.close()
    for one in waiting:
        assert isinstance(one.exception(patience), Closed)
    assert over.wait(patience)
    assert isinstance(told[0], Closed)
    assert native.tolist() == [6] * 4


def test_a_point_of_a_closed_device_asks_no_driver() -> None:
    class Strict(HostDriver):
        over = False

        def query(self, token: Any) -> bool:
            assert not self.over, "the driver was closed"
            return super().query(token)

        def close(self, timeout: float) -> None:
            super().close(timeout)
            self.over = True

    device = assemble(Strict(HostMachine()))
    device.native.hold("compute")
    point = device.submit(device.command_list())
    device.close()
    assert not point.done
    assert point.timeline.completed == 0
    with pytest.raises(Closed):
        point.wait(0)


def test_a_driver_that_never_ends_is_left_behind_with_a_warning() -> None:
    release = threading.Event()
    device = assemble(HostDriver(HostMachine()), DeviceOptions(drain_timeout=0.01))
    entered = threading.Event()

    def stuck(_threads: object) -> None:
        entered.set()
        release.wait(20)

    kernel = device.create_kernel(KernelSource("stuck", {"host": stuck}))
    point = device.submit(device.command_list().dispatch(kernel, [], threads=1))
    assert entered.wait(20)
    try:
        with pytest.warns(ResourceWarning, match=r"still in flight after 0\.01 s"):
            device.close()
    finally:
        release.set()
    with pytest.raises(Closed):
        point.wait(0)


def test_an_assembly_that_fails_closes_its_driver() -> None:
    class Limitless(HostDriver):
        closed = False

        def close(self, timeout: float) -> None:
            self.closed = True
            super().close(timeout)

    driver = Limitless(HostMachine())
    driver.info = type(driver.info)("host", "limitless", "cpu", "0")
    with pytest.raises(UsageError, match="without limits"):
        assemble(driver)
    assert driver.closed


def test_opening_and_closing_leaves_nothing_behind() -> None:
    gc.collect()
    before = set(threading.enumerate())
    for _ in range(200):
        with assemble(HostDriver(HostMachine())) as device:
            buffer = device.create_buffer(64)
            with device.staging_ring(buffer_size=64) as ring, device.readback_pool(buffer_size=64) as pool:
                told = threading.Event()
                ring.upload(np.ones(64, np.uint8), buffer).on_done(lambda *_, told=told: told.set())
                assert pool.read(buffer).wait(20).all()
                assert told.wait(20)
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("forge3d"):
            thread.join(20)
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("forge3d")]


class Counted(HostDriver):
    """Counts how often it closes, and then does what the test says."""

    closed = 0

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        super().__init__(HostMachine())
        self.then = then

    def close(self, timeout: float) -> None:
        self.closed += 1
        super().close(timeout)
        self.then()


def broken(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [ArithmeticError("a mistake"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Timeline, "poll"),
        (Pool, "abandon"),
        (Ring, "abandon"),
        (CallGuard, "shut"),
        (HostDriver, "close"),
        (Allocator, "close"),
        (Ledger, "close"),
        (Transfers, "close"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__),
)
def test_whatever_raises_the_rest_is_closed_once(
    owner: type, name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Counted()
    device = assemble(driver, DeviceOptions(drain_timeout=0.01))
    made = device.staging_ring(), device.readback_pool(), device.create_buffer(64)
    done: list[str] = []

    def watch(kind: type, method: str) -> None:
        real = getattr(kind, method)
        monkeypatch.setattr(
            kind, method, lambda self, *args: (done.append(kind.__name__), real(self, *args))[1]
        )

    for kind, method in ((Pool, "abandon"), (Ring, "abandon"), (Allocator, "close"), (Ledger, "close")):
        watch(kind, method)
    watch(Transfers, "close")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken(error))
        with pytest.raises((type(error), DriverError)) as caught:
            device.close()
    of_driver = owner is HostDriver and isinstance(error, Exception)  # not an interrupt
    assert (caught.value.__cause__ if of_driver else caught.value) is error
    parts = {"Pool", "Ring", "Allocator", "Ledger", "Transfers"} - {owner.__name__}
    assert sorted(done) == sorted(parts)
    assert driver.closed == (owner is not CallGuard)
    assert device.closed
    device.close()
    assert sorted(done) == sorted(parts)
    for lane in device.lanes.values():
        assert isinstance(lane.timeline.failure, Closed)
    driver.machine.close(1.0)
    del made


def test_the_first_error_is_the_one_to_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    def once() -> None:
        driver.then = lambda: None
        raise KeyboardInterrupt

    driver = Counted(once)
    device = assemble(driver)
    monkeypatch.setattr(Ledger, "close", broken(ArithmeticError()))
    with pytest.raises(KeyboardInterrupt):
        device.close()
    device.close()


def test_who_closes_meanwhile_comes_back_when_it_is_closed(
    background: Callable[..., Any],
    until: Callable[..., None],
    patience: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entered, leave = threading.Event(), threading.Event()
    driver = Counted(lambda: (entered.set(), leave.wait(patience)))
    device = assemble(driver)
    device.create_buffer(64)
    first = background(device.close)
    assert entered.wait(patience)
    others = [background(lambda: (device.close(), leave.is_set(), device.budget.metrics().total_bytes))]
    others += [background(device.close) for _ in range(3)]
    looks = threading.Event()
    monkeypatch.setattr(closing.time, "sleep", lambda _seconds: (looks.set(), leave.wait(0.001)))
    assert looks.wait(patience)
    assert not any(one.done() for one in others)
    leave.set()
    assert others[0].result(patience) == (None, True, 0)
    for one in (first, *others):
        one.result(patience)
    assert driver.closed == 1


@pytest.mark.parametrize("kind", [Ring, Pool])
def test_a_second_close_of_a_ring_or_a_pool_waits_too(
    kind: type, device: AssembledDevice, background: Callable[..., Any], patience: float, monkeypatch: Any
) -> None:
    child: Any = device.staging_ring() if kind is Ring else device.readback_pool()
    entered, leave = threading.Event(), threading.Event()
    name = "_close" if kind is Ring else "_end"
    real = getattr(kind, name)
    monkeypatch.setattr(
        kind, name, lambda self, *args: (entered.set(), leave.wait(patience), real(self, *args))[2]
    )
    first = background(child.close)
    assert entered.wait(patience)
    second = background(lambda: (child.close(), child.closed))
    looks = threading.Event()
    monkeypatch.setattr(closing.time, "sleep", lambda _seconds: (looks.set(), leave.wait(0.001)))
    assert looks.wait(patience)
    assert not second.done()
    leave.set()
    assert second.result(patience) == (None, True)
    first.result(patience)


def test_a_close_inside_a_close_does_not_wait_for_it() -> None:
    """A callback of ours, or a finalizer of the program's, closes what is being closed."""
    device = assemble(Counted(lambda: (device.close(), done.append(device.closed))))
    done: list[bool] = []
    device.close()
    assert done == [True]


def test_a_kernel_that_closes_its_device_is_not_waited_for_by_itself(
    open_device: Callable[..., AssembledDevice],
    background: Callable[..., Any],
    until: Callable[..., None],
    patience: float,
) -> None:
    device = open_device(drain_timeout=patience)
    started, go, closed = threading.Event(), threading.Event(), threading.Event()

    def close(_threads: object) -> None:
        started.set()
        go.wait(patience)
        device.close()
        closed.set()

    kernel = device.create_kernel(KernelSource("closes", {"host": close}))
    device.submit(device.command_list().dispatch(kernel, [], threads=1))
    assert started.wait(patience)
    first = background(device.close)
    until(lambda: device.closed)
    go.set()
    assert closed.wait(patience / 4)
    first.result(patience)


def test_the_warning_names_who_closed(device: AssembledDevice) -> None:
    kept = device.budget.reserve(64)
    with pytest.warns(ResourceWarning, match=r"1 reservation.* not released") as caught:
        device.close()
    assert [one.filename for one in caught] == [__file__]
    assert kept.released


def test_steps_that_an_interrupt_left_are_taken_by_the_next_call() -> None:
    for interrupter in interrupters(closing):
        stack = list(range(9))
        ending = Teardown(deque([stack.pop] * 4))  # C code: an interrupt comes before it or after it
        interrupter.run(ending.run)
        ending.run()
        assert stack == [0, 1, 2, 3, 4]
