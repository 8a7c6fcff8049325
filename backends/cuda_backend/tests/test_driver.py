"""The driver's life on a device: opening, closing, losing it, and whose device is current."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import forge3d_core.driver
from forge3d_core.driver import Fill
from forge3d_core.protocols import DeviceOptions
from forge3d_cuda.plugin import CudaBackend

if TYPE_CHECKING:
    from conftest import Bench, CallGuard, Watched

PATIENCE = 30.0
LOSS = """
import attrs, sys
from forge3d_core.driver import Dispatch, Fill
from forge3d_core.errors import DeviceLost
from forge3d_core.protocols import KernelSource
from forge3d_cuda.driver import CudaDriver
from forge3d_cuda.plugin import list_devices, load_cupy

@attrs.frozen
class Program:
    native: object

@attrs.frozen
class Region:
    native: object

cupy = load_cupy()
info = list_devices(cupy)[0]
driver = CudaDriver.open(cupy, info, info.limits)
region, block = Region(driver.allocate_buffer(64)), driver.allocate_block(64, "upload")
code = 'extern "C" __global__ void crash() { *(volatile int*) 8 = 1; }'
crash = Program(driver.compile(KernelSource("crash", {"cuda": code}))[1])
token = driver.submit("compute", [Dispatch(crash, (), (), (1, 1, 1))], ())
for use in (
    lambda: driver.wait(token, 30),
    lambda: driver.query(token),
    lambda: driver.submit("upload", [Fill(region, 0, 64, 1)], ()),
    lambda: driver.allocate_buffer(64),
    lambda: driver.allocate_block(5_000_000, "upload"),
):
    try:
        use()
    except DeviceLost as error:
        assert "lost" in str(error)
    else:
        sys.exit("no DeviceLost")
driver.free(block)
driver.free(region.native)
driver.close(10)
print("lost and closed")
"""


def test_a_lost_device_says_so_and_closes(cupy: Any) -> None:
    # In a process of its own: the context is of no use afterwards.
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOSS], capture_output=True, text=True, timeout=100, check=False
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "lost and closed"), ended.stderr


def test_info_and_native(cupy: Any, bench: Bench) -> None:
    info = bench.driver.info
    assert info.limits is not None
    assert (info.backend, info.selector, info.limits.languages) == ("cuda", "0", ("cuda",))
    assert info.memory_bytes is not None
    assert info.memory_bytes <= info.limits.max_buffer_size
    assert bench.driver.native == cupy.cuda.Device(0)


def test_it_has_what_a_driver_has(bench: Bench) -> None:
    promised = {name for name in vars(forge3d_core.driver.Driver) if not name.startswith("_")}
    assert {name for name in promised if not hasattr(bench.driver, name)} == set()


def test_close_is_bounded_while_work_is_held(bench: Bench, gate: CallGuard) -> None:
    held = gate.hold("compute")
    assert bench.driver.close(0.05) is False
    assert not bench.driver.query(held)  # so close did not wait for it


def test_a_busy_device_closes_when_its_work_has_ended(
    watched: Watched, open_bench: Callable[..., Bench], make_gate: Callable[[Bench], CallGuard]
) -> None:
    bench = open_bench(watched)
    buffer, block = bench.buffer(64 << 20), bench.driver.allocate_block(64 << 20, "upload")
    gate = make_gate(bench)
    gate.hold("compute")
    taken = watched.taken.copy()
    assert bench.driver.close(0.0) is False
    assert watched.taken == taken
    block.view()[:] = 1
    gate.open()
    bench.close()
    assert bench.driver.close(0.0)  # an interrupt may come after the last step, too
    del block
    # An array still shows the buffer, and the pool would never give back what outlives it.
    assert {name for name, _ in watched.taken} >= {"mallocFromPoolAsync", "memPoolCreate"}
    assert watched.outstanding("hostAlloc") == 0
    del buffer
    gc.collect()
    assert watched.taken == set()


def test_a_closed_device_leaves_nothing(watched: Watched, open_bench: Callable[..., Bench]) -> None:
    for _ in range(10):
        bench = open_bench(watched)
        buffer, block = bench.buffer(4 << 20), bench.driver.allocate_block(1 << 20, "upload")
        bench.run(Fill(buffer, 0, 100, 1))
        assert watched.outstanding("mallocFromPoolAsync") == watched.outstanding("hostAlloc") == 1
        bench.driver.free(block)
        bench.driver.free(buffer.native)
        del buffer, block
        bench.close()
        assert watched.taken == set()


def test_the_caller_keeps_his_current_device(cupy: Any) -> None:
    runtime = cupy.cuda.runtime
    if runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices")
    runtime.setDevice(0)
    with CudaBackend().open("1") as device:
        buffer = device.create_buffer(64)
        commands = device.command_list()
        commands.fill(buffer, 5)
        device.submit(commands).wait(PATIENCE)
        assert runtime.getDevice() == 0
        assert buffer.native.device.id == 1
        assert set(buffer.native.get()) == {5}


def test_the_core_assembles_a_device(cupy: Any) -> None:
    with CudaBackend().adopt(cupy.cuda.Device(0), DeviceOptions(budget="8 MiB")) as device:
        buffer = device.create_buffer(100_000)
        with device.staging_ring(ring_count=2, buffer_size=8192) as ring, device.readback_pool() as pool:
            data = bytes(range(256)) * 390
            ring.upload(np.frombuffer(data, np.uint8), buffer).wait(PATIENCE)
            assert pool.read(buffer).wait(PATIENCE).tobytes() == data + bytes(100_000 - len(data))
    assert not cupy.asnumpy(cupy.zeros(4)).any()  # the adopted device is still open


EXIT = """
from forge3d_core.protocols import DeviceOptions, KernelSource
from forge3d_cuda.plugin import CudaBackend

CODE = '''
extern "C" __global__ void spin() {{
    unsigned long long begin, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
    do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); while (now - begin < 30000000000ull);
}}
'''
device = CudaBackend().open("", DeviceOptions(drain_timeout=0.05))
ring, buffer = device.staging_ring(), device.create_buffer(1 << 20)
spin = device.create_kernel(KernelSource("spin", {{"cuda": CODE}}, workgroup=(1, 1, 1)))
point = device.submit(device.command_list().dispatch(spin, [], threads=1))
assert not point.done
{then}
"""


@pytest.mark.parametrize("then", ["", "del device, ring, buffer, spin, point", "device.close()"])
def test_the_interpreter_exits_with_work_in_flight(cupy: Any, then: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", EXIT.format(then=then)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
