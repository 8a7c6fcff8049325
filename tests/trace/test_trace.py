"""What a trace notes, and what it leaves as it was."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forge3d_core import TracedDevice, errors, protocols
from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import Binding, KernelSource
from forge3d_core.timeline.timeline import Timeline
from forge3d_core.trace import Trace
from forge3d_core.trace.copies import COPIES
from forge3d_core.transfer.moving import MOVER
from tests.fork import complaints_of_a_child

ADD = KernelSource("add", {"host": lambda _threads, data: np.add(data, 1, out=data)}, [Binding("data")])
MIB = 1 << 20


def work(device: AssembledDevice, nbytes: int = 4 * MIB) -> None:
    buffer = device.create_buffer(nbytes)
    with device.staging_ring() as ring, device.readback_pool() as pool:
        ring.upload(np.zeros(nbytes, np.uint8), buffer)
        device.submit(device.command_list().dispatch(device.create_kernel(ADD), [buffer], threads=1))
        assert (pool.read(buffer).wait() == 1).all()
    buffer.close()


def of(trace: Trace, phase: str, category: str = "") -> list[dict[str, Any]]:
    events = trace.document()["traceEvents"]
    return [event for event in events if event["ph"] == phase and event.get("cat", "") == category]


def untouched(device: AssembledDevice, driver: HostDriver) -> bool:
    timelines = [lane.timeline for lane in device.lanes.values()]
    submitter: Any = device.submit_commands
    return (
        all(type(one) is Timeline and one.signals is driver for one in timelines)
        and submitter.__self__.driver is driver
        and MOVER.copy is np.copyto
        and driver.machine._lanes.timed == 0
    )


def test_lanes_blocks_waits_fences_and_copies(device: AssembledDevice) -> None:
    with device.trace() as trace:
        work(device)
    kernels = of(trace, "X", "kernel")
    assert [event["name"] for event in kernels] == ["#1 add"]
    assert all(event["args"]["clock"] == "host" for event in kernels + of(trace, "X", "transfer"))
    assert sum(event["args"]["bytes"] for event in of(trace, "X", "transfer")) == 8 * MIB
    assert sum(event["args"]["bytes"] for event in of(trace, "X", "copy")) == 8 * MIB
    waits = of(trace, "X", "wait")
    assert any(event["name"].startswith("wait download") for event in waits)
    submissions = of(trace, "X", "submit")
    assert len(of(trace, "i", "fence")) == len(submissions)
    names = {event["name"] for event in of(trace, "b", "slot")}
    assert {name.split()[0] for name in names} == {"upload", "readback"}
    uploads = max(
        event["ts"] + event["dur"] for event in of(trace, "X", "transfer") if "upload" in event["name"]
    )
    downloads = min(event["ts"] for event in of(trace, "X", "transfer") if "download" in event["name"])
    (kernel,) = kernels
    assert uploads <= kernel["ts"] <= kernel["ts"] + kernel["dur"] <= downloads


def test_off_it_leaves_the_device_as_it_was(device: AssembledDevice, driver: HostDriver) -> None:
    assert untouched(device, driver)
    with device.trace() as outer:
        assert not untouched(device, driver)
        with device.trace():
            pass
        assert not untouched(device, driver)
        work(device)
    assert untouched(device, driver)
    assert of(outer, "X", "kernel")
    with pytest.raises(ValueError, match="mine"), device.trace():
        raise ValueError("mine")
    assert untouched(device, driver)


def test_work_in_flight_at_either_end(device: AssembledDevice, driver: HostDriver) -> None:
    buffer = device.create_buffer(64)

    def submit() -> protocols.FencePoint:
        return device.submit(device.command_list().fill(buffer, 1))

    with driver.hold("compute"):
        before = submit()
        with device.trace() as trace:
            inside = submit()
        after = submit()
    for point in (before, inside, after):
        point.wait(20)
    (event,) = of(trace, "X", "transfer")
    assert event["name"] == "#2 fill"
    assert event["args"]["in flight when the trace ended"] is True
    assert of(trace, "i", "fence") == []
    with device.trace() as whole:
        submit().wait(20)
    assert of(whole, "X", "transfer")[0]["args"]["in flight when the trace ended"] is False


def test_nested_and_side_by_side(device: AssembledDevice) -> None:
    first, second = device.trace(), device.trace()
    first.start()
    work(device, 1024)
    second.start()
    work(device, 1024)
    first.stop()
    work(device, 1024)
    second.stop()
    second.stop()
    assert len(of(first, "X", "kernel")) == len(of(second, "X", "kernel")) == 2
    assert [event["name"] for event in of(first, "X", "kernel")] == ["#1 add", "#2 add"]
    with pytest.raises(errors.StateError, match="before"):
        first.start()


def test_memory_is_bounded_and_what_is_dropped_is_counted(device: AssembledDevice) -> None:
    buffer = device.create_buffer(64)
    with device.trace(max_events=10) as trace:
        for _ in range(25):
            device.submit(device.command_list().fill(buffer, 1))
        device.wait_idle()
    assert len(of(trace, "X", "submit")) == 10
    assert trace.dropped >= 15
    assert trace.document()["otherData"]["dropped"] == trace.dropped
    assert of(trace, "X", "submit")[-1]["name"] == "submit compute #25"


def test_threads_have_their_own_tracks(device: AssembledDevice) -> None:
    buffer = device.create_buffer(64)

    def submit() -> None:
        for _ in range(20):
            device.submit(device.command_list().fill(buffer, 1)).wait(20)

    with device.trace() as trace:
        threads = [threading.Thread(target=submit, name=f"mine {number}") for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    names = {
        event["tid"]: event["args"]["name"]
        for event in of(trace, "M")
        if event["name"] == "thread_name" and event["pid"] == 1
    }
    counts = dict.fromkeys((f"mine {number}" for number in range(4)), 0)
    for event in of(trace, "X", "submit"):
        counts[names[event["tid"]]] += 1
    assert set(counts.values()) == {20}


@pytest.mark.parametrize("end", ["close", "lose"])
def test_a_device_that_ends_in_it(driver: HostDriver, end: str) -> None:
    device = assemble(driver)
    with device.trace() as trace:
        work(device, 1024)
        with driver.hold("compute"):
            buffer = device.create_buffer(64)
            point = device.submit(device.command_list().fill(buffer, 1))
            if end == "close":
                device.close()
            else:
                driver.lose("a test")
                with pytest.raises(errors.DeviceLost):
                    point.wait(20)
    device.close()
    assert of(trace, "X", "kernel")
    if end == "lose":
        assert any(event["args"]["raised"] == "DeviceLost" for event in of(trace, "X", "wait"))
    with pytest.raises(errors.ForgeError):
        device.trace()


def test_a_trace_keeps_no_device(driver: HostDriver) -> None:
    device = assemble(driver)
    with device.trace() as trace:
        work(device, 1024)
    gone = weakref.ref(device)
    device.close()
    del device
    gc.collect()
    assert gone() is None
    assert of(trace, "X", "kernel")


def test_an_interrupt_while_it_begins_leaves_nothing_behind(
    device: AssembledDevice, driver: HostDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_self: HostDriver, _on: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(HostDriver, "time_submissions", interrupt)
        with pytest.raises(KeyboardInterrupt):
            device.trace().start()
    assert untouched(device, driver)
    work(device, 1024)


def test_a_submission_that_is_refused_is_noted(device: AssembledDevice, driver: HostDriver) -> None:
    buffer = device.create_buffer(64)
    commands = device.command_list().fill(buffer, 1)
    with device.trace() as trace:
        driver.lose("a test")
        with pytest.raises(errors.DeviceLost):
            device.submit(commands)
    assert [event["args"]["raised"] for event in of(trace, "X", "submit")] == ["DeviceLost"]
    assert of(trace, "X", "transfer") == []


DRIVER = (
    *("footprint", "allocate_buffer", "allocate_texture", "allocate_block", "free", "adopt", "compile"),
    *("submit", "query", "wait", "check", "retire", "close"),
)


class Plain:
    """A stranger's driver, that has nothing but the calls of the protocol."""

    def __init__(self, driver: HostDriver) -> None:
        self.info, self.native = driver.info, driver.native
        for name in DRIVER:
            setattr(self, name, getattr(driver, name))


def test_a_strangers_driver_without_clocks() -> None:
    plain: Any = Plain(HostDriver(HostMachine(), owned=True))
    with assemble(plain) as device:
        with device.trace() as trace:
            work(device)
        events = of(trace, "X", "transfer") + of(trace, "X", "kernel")
        assert {event["args"]["clock"] for event in events} == {"observed"}
        assert set(trace.document()["otherData"]["clocks"].values()) == {"observed"}
        told = trace.usage()
        assert told.kernels is None
        assert "tells" in told.reason
        (kernel,) = of(trace, "X", "kernel")
        uploads = [event for event in of(trace, "X", "transfer") if "upload" in event["name"]]
        assert kernel["ts"] >= max(event["ts"] for event in uploads)


def test_a_driver_whose_clock_fails_fails_no_lane(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(_self: HostDriver, _token: Any) -> None:
        raise RuntimeError("no clock")

    monkeypatch.setattr(HostDriver, "times", times)
    with device.trace() as trace:
        work(device, 1024)
    assert of(trace, "X", "kernel")[0]["args"]["clock"] == "observed"


def test_two_devices_over_one_machine_time_by_themselves() -> None:
    machine = HostMachine()
    with assemble(HostDriver(machine, owned=False)) as one, assemble(HostDriver(machine, owned=False)) as two:
        with one.trace() as first:
            with two.trace():
                pass
            work(one, 1024)
        assert of(first, "X", "kernel")[0]["args"]["clock"] == "host"
        assert machine._lanes.timed == 0
    machine.close()


def test_a_forked_child_can_end_and_save_it(device: AssembledDevice, tmp_path: Path) -> None:
    with device.trace() as trace:
        work(device, 1024)

        path, locks = tmp_path / "child.json", [device.tap._lock, COPIES._lock]
        assert complaints_of_a_child([device.trace], [trace.stop, lambda: trace.save(path)], locks, 20) == []
        work(device, 1024)
    assert len(of(trace, "X", "kernel")) == 2
    document = json.loads(path.read_text())
    assert len([event for event in document["traceEvents"] if event.get("cat") == "kernel"]) == 1


def test_how_busy_it_was(device: AssembledDevice) -> None:
    with device.trace() as trace:
        work(device)
    usage = trace.usage()
    assert usage.kernels is not None
    assert 0 < usage.kernels <= 1
    assert set(usage.lanes) == {"upload", "compute", "download"}
    assert device.trace().usage().kernels is None


def test_it_is_the_protocol(device: AssembledDevice) -> None:
    assert isinstance(device, TracedDevice)
    assert isinstance(device.trace(), protocols.Trace)
    with pytest.raises(errors.StateError, match="not been started"):
        device.trace().document()


class Ranged(HostDriver):
    """A driver whose API has a profiler of its own."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def push_range(self, name: str) -> None:
        self.open.append(name)
        self.seen.append(name)

    def pop_range(self) -> None:
        self.open.pop()


def test_the_profiler_of_the_api_shows_what_is_traced() -> None:
    driver = Ranged(HostMachine(), owned=True)
    with assemble(driver) as device:
        device.submit(device.command_list()).wait(20)
        assert driver.seen == []
        with device.trace():
            device.submit(device.command_list()).wait(20)
        assert any(name.startswith("submit compute 2") for name in driver.seen)
        count = len(driver.seen)
        device.submit(device.command_list()).wait(20)
        assert len(driver.seen) == count
    assert driver.open == []
