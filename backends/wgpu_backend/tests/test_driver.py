"""A driver's life: open, close, leave nothing behind."""

from __future__ import annotations

import atexit
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import wgpu

from forge3d_core.driver import Driver, Fill, poll_until
from forge3d_wgpu.lanes import Lanes
from forge3d_wgpu.plugin import WgpuBackend
from forge3d_wgpu.staging import HostBlock

PATIENCE = 60.0


def test_it_satisfies_the_interface(rig: Any) -> None:
    driver: Driver = rig.driver
    limits = driver.info.limits
    assert limits is not None
    assert limits.copy_alignment == 4
    assert limits.row_pitch_alignment == 256
    assert not limits.concurrent_lanes


def native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads and files in /proc")
def test_opening_and_closing_leaves_nothing_behind(backend: WgpuBackend) -> None:
    def use() -> tuple[int, int, int]:
        with backend.open() as device:
            buffer = device.create_buffer(100)
            with device.staging_ring() as ring, device.readback_pool() as pool:
                ring.upload(bytes(50), buffer, 1)
                pool.read(buffer).wait(60)
        return threading.active_count(), native_threads(), len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        before = use()
    for _ in range(20):
        after = use()
    assert after <= before


def test_close_ends_in_time_with_work_in_flight(rig: Any) -> None:
    tokens = [rig.submit(rig.long_work()) for _ in range(4)]
    rig.close(0.01)
    assert not any(thread.name == "forge3d-wgpu-feed" for thread in threading.enumerate())
    queued = [token for token in tokens if not token.launched]  # on a CPU, with the feeder
    for token in tokens[: len(tokens) - len(queued)]:  # what runs goes on, and can be asked for
        assert rig.driver.wait(token, PATIENCE)
    assert not any(rig.driver.query(token) for token in queued)


def test_close_lets_work_end(rig: Any) -> None:
    tokens = [rig.submit(rig.long_work()), rig.submit(Fill(rig.buffer(64), 0, 64, 1))]
    rig.close()
    assert all(token.settled for token in tokens)


def test_an_interrupted_close_gives_up_waiting_and_can_be_made_up_for(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unregistered: list[Any] = []
    monkeypatch.setattr(atexit, "unregister", unregistered.append)
    buffer, derived = rig.buffer(64), rig.driver.allocate_block(64, "upload").view()[1:]
    tokens = [rig.submit(rig.long_work()) for _ in range(3)]  # on a CPU some are with the feeder

    def interrupt(_lanes: Lanes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lanes, "_idle", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rig.driver.close(PATIENCE)
    assert not tokens[-1].done
    assert not unregistered
    for thread in threading.enumerate():
        if thread.name == "forge3d-wgpu-feed":
            thread.join(PATIENCE)
            assert not thread.is_alive()
    rig.close()
    assert buffer.native._internal is None
    assert rig.driver._live == {}
    assert unregistered == [rig.driver._at_exit]
    derived[:] = 1
    assert rig.driver.close(0.0)  # an interrupt may come after the last step, too


def native_count(noun: str) -> int:
    count: int = wgpu.diagnostics.wgpu_native_counts.get_dict()[noun]["count"]
    return count


live_devices = partial(native_count, "Device")
command_buffers = partial(native_count, "CommandBuffer")


@pytest.mark.parametrize("kept", [False, True], ids=["", "an array still shows its memory"])
def test_a_busy_device_closes_when_its_work_has_ended(rigs: Callable[[], Any], kept: bool) -> None:
    def left_behind() -> int:
        before, rig = live_devices(), rigs()
        array = rig.driver.allocate_block(64, "upload").view()[1:] if kept else None
        rig.submit(rig.long_work())
        assert not rig.driver.close(0.0)
        assert live_devices() > before
        assert poll_until(lambda: rig.driver.close(0.0), PATIENCE)
        after = live_devices()
        rig.closed = True
        del array
        return after - before

    left_behind()  # and what earlier tests left behind goes as well
    assert left_behind() == 0


@pytest.mark.parametrize("chance", range(4))
def test_a_close_that_is_cut_short_and_made_up_for_leaves_arrays_their_memory(
    rig: Any, chance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is destroyed takes mapped memory along, whoever still shows it."""
    destroyed: list[Any] = []
    monkeypatch.setattr(type(rig.driver.native), "destroy", destroyed.append)
    blocks = [rig.driver.allocate_block(64, "upload") for _ in range(2)]
    arrays = [block.view()[1:] for block in blocks]
    releases, release = iter(range(99)), HostBlock.release

    def interrupt(block: HostBlock) -> bool:
        number = next(releases)
        if chance == 2 * number:
            raise KeyboardInterrupt
        gone = release(block)
        if chance == 2 * number + 1:
            raise KeyboardInterrupt
        return gone

    monkeypatch.setattr(HostBlock, "release", interrupt)
    with pytest.raises(KeyboardInterrupt):
        rig.close()
    rig.close()
    assert rig.closed
    assert not destroyed
    for array in arrays:
        array[:] = 1


def test_a_device_goes_with_what_it_never_submitted(rigs: Callable[[], Any]) -> None:
    """wgpu-native keeps a command buffer that is finished and not submitted, and its device, for good."""

    def left_behind() -> int:
        before, rig = command_buffers(), rigs()
        for _ in range(3):  # on a CPU some are with the feeder
            last = rig.submit(rig.long_work())
        assert not rig.driver.close(0.0)
        assert last.recording is None
        rig.close()
        return command_buffers() - before

    left_behind()
    assert left_behind() == 0


def test_closing_our_own_device_is_not_reported_as_an_accident(
    rig: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rig.run(Fill(rig.buffer(64), 0, 64, 1))
    rig.close()
    assert not caplog.records


INTERRUPTED = """
from forge3d_wgpu.lanes import Lanes

def interrupt(lanes):
    raise KeyboardInterrupt

Lanes._idle = interrupt
try:
    device.close()
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("close waited")
"""
EXIT = """
from forge3d_core.protocols import Binding, DeviceOptions, KernelSource, Param
from forge3d_wgpu.plugin import WgpuBackend

device = WgpuBackend().open("", DeviceOptions(drain_timeout=0.01))
bindings, params = [Binding("out", "readwrite", "u4")], [Param("rounds")]
kernel = device.create_kernel(KernelSource("spin", {{"wgsl": {code!r}}}, bindings, params))
out = device.create_buffer(256)
rounds, threads = (60_000, 64 * 5000) if device.info.kind == "cpu" else (1_000_000, 64)
for _ in range(40):
    point = device.submit(device.command_list().dispatch(kernel, [out], [rounds], threads=threads))
assert not point.done
{then}
"""


@pytest.mark.parametrize(
    "then",
    [
        "",
        "del device, kernel, out, point",
        "raise SystemExit(0)",
        pytest.param(INTERRUPTED, id="interrupted"),
        "device.close()",
    ],
)
def test_the_interpreter_exits_with_work_in_flight(backend: WgpuBackend, spin: str, then: str) -> None:
    """On a CPU forty submissions take minutes, and the process must not wait for them.

    A GPU's driver lets a process go only when what it queued has run, killed or not, so there they take one.
    """
    script = EXIT.format(code=spin, then=then)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
