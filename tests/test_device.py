from __future__ import annotations

import gc
import multiprocessing
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forge3d_core.device import AssembledDevice, assemble
from forge3d_core.errors import (
    Closed,
    DeviceLost,
    ForeignObject,
    Forked,
    KernelError,
    OutOfDeviceMemory,
    TooLarge,
    UsageError,
)
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import Binding, Device, DeviceOptions, KernelSource, Lane

ROOT = Path(__file__).parent.parent


def contents(buffer: Any) -> Any:
    return np.asarray(buffer.native).tolist()


def threads_of_devices() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("forge3d")]


def test_a_device_satisfies_its_protocols(device: AssembledDevice) -> None:
    assert isinstance(device, Device)
    assert all(isinstance(lane, Lane) for lane in device.lanes.values())
    assert tuple(device.lanes) == ("upload", "compute", "download")
    with pytest.raises(TypeError):
        device.lanes["own"] = device.lanes["upload"]  # type: ignore[index]


# -- what touches the same memory is ordered, without a single after= --


@pytest.mark.parametrize("held", ["upload", "compute", "download"])
@pytest.mark.parametrize("behind", ["upload", "compute", "download"])
def test_writes_of_two_lanes_keep_their_order(device: AssembledDevice, held: str, behind: str) -> None:
    buffer = device.create_buffer(4)
    with device.native.hold(held):
        first = device.submit(device.command_list().fill(buffer, 1), lane=held)
        second = device.submit(device.command_list().fill(buffer, 2), lane=behind)
        assert not first.done
        assert not second.done
    second.wait(20)
    assert first.done
    assert contents(buffer) == [2] * 4


def test_a_read_waits_for_the_write_before_it(device: AssembledDevice) -> None:
    source, target = device.create_buffer(4), device.create_buffer(4)
    with device.native.hold("upload"):
        device.submit(device.command_list().fill(source, 3), lane="upload")
        copied = device.submit(device.command_list().copy(source, target))
        assert not copied.done
    copied.wait(20)
    assert contents(target) == [3] * 4


def test_a_write_waits_for_every_read_before_it(device: AssembledDevice) -> None:
    source = device.create_buffer(4)
    targets = [device.create_buffer(4) for _ in range(2)]
    device.submit(device.command_list().fill(source, 3)).wait(20)
    with device.native.hold("upload"), device.native.hold("download"):
        for lane, target in zip(("upload", "download"), targets, strict=True):
            device.submit(device.command_list().copy(source, target), lane=lane)
        written = device.submit(device.command_list().fill(source, 4))
        assert not written.done
    written.wait(20)
    assert [contents(target) for target in targets] == [[3] * 4] * 2


def test_reads_do_not_wait_for_each_other_nor_for_other_memory(device: AssembledDevice) -> None:
    source, first, second, other = (device.create_buffer(4) for _ in range(4))
    device.submit(device.command_list().fill(source, 3)).wait(20)
    with device.native.hold("upload"):
        stuck = device.submit(device.command_list().copy(source, first), lane="upload")
        device.submit(device.command_list().copy(source, second)).wait(20)
        device.submit(device.command_list().fill(other, 5)).wait(20)
        assert not stuck.done
    assert contents(second) == [3] * 4


def test_what_a_kernel_says_it_reads_is_only_read(device: AssembledDevice) -> None:
    def touch(_threads: object, source: Any, target: Any) -> None:
        target[:] = source

    kernel = device.create_kernel(
        KernelSource(
            "touch", {"host": touch}, bindings=(Binding("source", "read"), Binding("target", "write"))
        )
    )
    source, first, second = (device.create_buffer(4) for _ in range(3))
    with device.native.hold("upload"):
        stuck = device.submit(
            device.command_list().dispatch(kernel, [source, first], threads=1), lane="upload"
        )
        device.submit(device.command_list().dispatch(kernel, [source, second], threads=1)).wait(20)
        overwrites = device.submit(device.command_list().fill(source, 1))
        assert not overwrites.done
        assert not stuck.done
    overwrites.wait(20)
    assert contents(first) == [0] * 4


def test_an_explicit_after_adds_to_the_order(device: AssembledDevice) -> None:
    one, other = device.create_buffer(4), device.create_buffer(4)
    with device.native.hold("upload"):
        first = device.submit(device.command_list().fill(one, 1), lane="upload")
        free = device.submit(device.command_list().fill(other, 1))
        free.wait(20)
        second = device.submit(device.command_list().fill(other, 2), after=iter([first, free]))
        assert not second.done
    second.wait(20)


def test_points_that_the_device_cannot_wait_for(
    device: AssembledDevice, open_device: Callable[..., AssembledDevice]
) -> None:
    commands = device.command_list()
    foreign = open_device().lanes["upload"].timeline.point(0)
    with pytest.raises(ForeignObject, match="another device"):
        device.submit(commands, after=[foreign])
    with pytest.raises(UsageError, match="not submitted yet"):
        device.submit(commands, after=[device.lanes["upload"].timeline.point(1)])
    with pytest.raises(UsageError, match=r"after=\[point\]"):
        device.submit(commands, after=device.lanes["upload"].timeline.point(0))  # type: ignore[arg-type]
    device.submit(commands, after=[device.lanes["upload"].timeline.point(0)]).wait(20)


# -- kernels --


def test_a_kernel_that_fails_says_where_and_ends_its_lane_alone(device: AssembledDevice) -> None:
    def divide(_threads: object) -> None:
        1 // 0  # noqa: B018

    kernel = device.create_kernel(KernelSource("divide", {"host": divide}))
    point = device.submit(device.command_list().dispatch(kernel, [], threads=1))
    with pytest.raises(KernelError, match=r"'divide'.*ZeroDivisionError.*test_device.py"):
        point.wait(20)
    assert not point.done
    with pytest.raises(KernelError):
        device.submit(device.command_list())
    with pytest.raises(KernelError):
        device.wait_idle(20)
    buffer = device.create_buffer(4)
    with device.staging_ring() as ring, device.readback_pool() as pool:
        ring.upload(np.full(4, 9, np.uint8), buffer)
        assert pool.read(buffer).wait(20).tolist() == [9] * 4


@pytest.mark.parametrize("sources", [{}, {"wgsl": "fn main() {}"}, {"host": "not callable"}])
def test_a_kernel_that_this_device_does_not_speak(device: AssembledDevice, sources: Any) -> None:
    with pytest.raises(KernelError, match="host"):
        device.create_kernel(KernelSource("other", sources))


# -- the end --


def uses(device: AssembledDevice) -> list[Callable[[], Any]]:
    """Return every way to use a device and what it made."""
    buffer, texture = device.create_buffer(64), device.create_texture(4, 4)
    ring, pool = device.staging_ring(), device.readback_pool()
    slot, commands = ring.allocate(8), device.command_list()
    assert slot is not None
    stream = pool.stream(buffer)
    return [
        lambda: device.create_buffer(4),
        lambda: device.create_texture(4, 4),
        lambda: device.create_kernel(KernelSource("k", {"host": print})),
        device.command_list,
        lambda: device.submit(commands),
        device.staging_ring,
        device.readback_pool,
        lambda: device.adopt(np.zeros(4)),
        device.wait_idle,
        lambda: ring.allocate(4),
        lambda: ring.reserve(4),
        ring.advance,
        lambda: ring.upload(np.zeros(4), buffer),
        lambda: ring.upload(np.zeros((4, 4, 4), np.uint8), texture),
        lambda: slot.view,
        lambda: slot.commit(buffer),
        lambda: pool.read(buffer),
        lambda: pool.read(texture),
        stream.push,
        lambda: device.lanes["upload"].timeline.point(99).wait(20),
    ]


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
            thread.join(1.0)
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("forge3d")]


def test_a_device_that_is_dropped_warns_and_stops_its_threads() -> None:
    device = assemble(HostDriver(HostMachine()))
    device.submit(device.command_list()).wait(20)
    lanes = [thread for thread in threading.enumerate() if thread.name.startswith("forge3d-host")]
    assert lanes
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del device
        gc.collect()
    assert [str(w.message) for w in caught if "never closed" in str(w.message)]
    for thread in lanes:
        thread.join(20)
        assert not thread.is_alive()


# -- loss --


def test_loss_reaches_every_waiter_and_every_call(
    open_device: Callable[..., AssembledDevice], background: Callable[..., Any], until: Any, patience: float
) -> None:
    device = open_device()
    calls = uses(device)
    buffer = device.create_buffer(64)
    ring = device.staging_ring(ring_count=1, buffer_size=64)
    pool = device.readback_pool(max_pending_ops=1)
    for lane in device.lanes:
        device.native.hold(lane)
    slot = ring.allocate(64)
    assert slot is not None
    slot.commit(buffer)
    ring.advance()
    handle = pool.read(buffer)
    points = [device.submit(device.command_list(), lane=lane) for lane in device.lanes]
    told: list[Any] = []
    points[0].on_done(lambda _point, error: told.append(error))
    waiting = [background(point.wait) for point in points]
    waiting.append(background(device.lanes["compute"].timeline.point(50).wait))
    waiting.append(background(ring.reserve, 8))
    waiting.append(background(pool.read, buffer))
    waiting.append(background(handle.wait))
    until(lambda: ring.stats().buffer_stalls == 1 and pool.stats().waits == 1)
    device.native.lose("the test took it")
    for one in waiting:
        assert isinstance(one.exception(patience), DeviceLost)
    until(lambda: len(told) == 1)
    assert isinstance(told[0], DeviceLost)
    for call in calls:
        with pytest.raises(DeviceLost, match="the test took it"):
            call()
    assert "lost" in repr(device)
    assert not any(point.done for point in points)
    buffer.close()
    ring.close()
    pool.close()
    assert device.budget.metrics().host_visible_bytes > 0, "what the lost device may still use was recycled"
    assert device.budget.metrics().device_local_bytes >= 64
    device.close()
    assert device.budget.metrics().total_bytes == 0


def test_a_loss_that_a_call_meets_first_is_everybodys(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device()
    point = device.lanes["download"].timeline.point(1)
    device.native.lose("unplugged")
    with pytest.raises(DeviceLost):
        device.create_buffer(4)
    with pytest.raises(DeviceLost):
        point.wait(20)
    with pytest.raises(DeviceLost):
        device.command_list()


# -- processes --


def child_uses(calls: list[Callable[[], Any]], quiet: list[Callable[[], Any]], report: Any) -> None:
    outcome = []
    for number, call in enumerate(calls):
        try:
            call()
            outcome.append(f"call {number} went through")
        except Forked:
            pass
        except BaseException as error:
            outcome.append(f"call {number}: {error!r}")
    for number, call in enumerate(quiet):
        try:
            call()
        except BaseException as error:
            outcome.append(f"close {number}: {error!r}")
    report.send(outcome)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_gets_an_error_and_no_hang(device: AssembledDevice, patience: float) -> None:
    calls = uses(device)
    buffer = device.create_buffer(64)
    ring, pool = device.staging_ring(), device.readback_pool()
    hold = device.native.hold("download")
    handle = pool.read(buffer)
    told: list[Any] = []

    def watch() -> None:
        handle.point.on_done(lambda _point, error: told.append(error))
        raise told[0]

    calls += [lambda: handle.wait(5), lambda: handle.point.wait(5), lambda: handle.lease(5), watch]
    quiet = [lambda: handle.point.done, buffer.close, pool.close, ring.close, device.close]
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    # The worst moment: another thread holds every lock that the child would like.
    locks = [pool._changed, ring._changed, device.allocator._lock, handle.point.timeline._changed]
    entered, leave = threading.Event(), threading.Event()

    def hold_locks() -> None:
        for lock in locks:
            lock.acquire()
        entered.set()
        leave.wait(patience)
        for lock in locks:
            lock.release()

    holder = threading.Thread(target=hold_locks)
    holder.start()
    assert entered.wait(patience)
    child = context.Process(target=child_uses, args=(calls, quiet, sending))
    child.start()
    leave.set()
    holder.join()
    assert receiving.poll(patience), "the child hangs"
    assert receiving.recv() == []
    child.join(patience)
    hold.release()
    assert handle.wait(20).nbytes == 64  # the parent goes on


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=9,  # less than drain_timeout: who waits for that fails
        check=False,
    )


OPEN = """
    import threading
    from forge3d_core.device import assemble
    from forge3d_core.host.driver import HostDriver
    from forge3d_core.host.machine import HostMachine
    from forge3d_core.protocols import KernelSource
    device = assemble(HostDriver(HostMachine()))
    buffer = device.create_buffer(64)
"""


@pytest.mark.parametrize(
    "busy",
    [
        'hold = device.native.hold("download")\n    handle = device.readback_pool().read(buffer)',
        """hold = device.native.hold("compute")
    device.submit(device.command_list()).on_done(lambda *_: None)""",
        """stuck = device.create_kernel(KernelSource("stuck", {"host": lambda _: threading.Event().wait()}))
    device.submit(device.command_list().dispatch(stuck, [], threads=1))""",
    ],
    ids=["held", "watched", "stuck"],
)
def test_the_interpreter_exits_with_work_in_flight(busy: str) -> None:
    ended = run_script(OPEN + "    " + busy + '\n    print("end")')
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "end", "")


# -- adoption --


def test_an_adopted_machine_stays_open() -> None:
    machine = HostMachine()
    with (
        assemble(HostDriver(machine, owned=False)) as first,
        assemble(HostDriver(machine, owned=False)) as second,
    ):
        one, other = first.create_buffer(4), second.create_buffer(4)
        first.submit(first.command_list().fill(one, 1)).wait(20)
        first.close()
        second.submit(second.command_list().fill(other, 2)).wait(20)
        assert contents(other) == [2] * 4
    machine.close()


def test_what_the_device_refuses_is_three_errors(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device("?oom_at=1", budget="1 KiB")
    with pytest.raises(OutOfDeviceMemory):
        device.create_buffer(4)
    with pytest.raises(TooLarge):
        device.create_buffer(1 << 60)
    device.create_buffer("1 MiB").close()  # device-local memory is counted, not limited
    assert device.budget.metrics().peak_bytes == 1 << 20


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_the_same_under_an_adversary(
    open_device: Callable[..., AssembledDevice], seed: int
) -> None:
    device = open_device(f"?seed={seed}&chaos=1")
    draw = np.random.default_rng(seed)
    buffers = [device.create_buffer(64) for _ in range(3)]
    model = [np.zeros(64, np.uint8) for _ in buffers]
    reads: list[tuple[Any, Any]] = []
    with (
        device.staging_ring(ring_count=2, buffer_size=64) as ring,
        device.readback_pool(max_pending_ops=3) as pool,
    ):
        for _ in range(60):
            a, b = draw.permutation(3)[:2]
            lane = str(draw.choice(["upload", "compute", "download"]))
            match int(draw.integers(0, 4)):
                case 0:
                    value = int(draw.integers(0, 256))
                    device.submit(device.command_list().fill(buffers[a], value, nbytes=40), lane=lane)
                    model[a][:40] = value
                case 1:
                    device.submit(device.command_list().copy(buffers[a], buffers[b], 50), lane=lane)
                    model[b][:50] = model[a][:50]
                case 2:
                    data = draw.integers(0, 256, 64, dtype=np.uint8)
                    ring.upload(data, buffers[a])
                    model[a][:] = data
                case _:
                    reads.append((pool.read(buffers[a]), model[a].copy()))
        for handle, expected in reads:
            assert (handle.wait(20) == expected).all(), f"seed {seed}"
