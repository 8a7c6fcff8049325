"""Blocks that cannot go back yet, under a runtime that runs nothing: charged, and used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from forge3d_core import memory_figures
from forge3d_core.device import AssembledDevice, assemble
from forge3d_core.errors import BudgetExhausted, Closed, OutOfHostMemory
from forge3d_core.protocols import DeviceOptions
from forge3d_cuda.errors import OUT_OF_MEMORY

if TYPE_CHECKING:
    from forge3d_cuda.driver import CudaDriver

    from .runtime import Runtime

NBYTES = 8192


@pytest.fixture
def device(hollow_driver: CudaDriver) -> AssembledDevice:
    return assemble(hollow_driver, DeviceOptions(budget=2 * NBYTES))


def keep_busy(device: AssembledDevice, runtime: Runtime) -> None:
    buffer = device.create_buffer(512)
    device.submit(device.command_list().fill(buffer, 1))
    runtime.pending.add(runtime.called("eventRecord")[-1][0])


def test_a_block_is_not_freed_while_the_device_is_busy(hollow_driver: CudaDriver, runtime: Runtime) -> None:
    block = hollow_driver.allocate_block(NBYTES, "upload")
    block.view()[:] = 7
    token = hollow_driver.submit("compute", [], ())
    assert token.event is not None
    runtime.pending.add(token.event.value)
    assert hollow_driver.free(block) is False
    assert (block.view() == 7).all()
    runtime.pending.clear()
    assert hollow_driver.free(block)  # though the token was not queried
    assert hollow_driver.free(block)
    assert runtime.called("freeHost") == [[block.address]]


def test_what_cannot_go_back_yet_stays_in_the_budget(device: AssembledDevice, runtime: Runtime) -> None:
    ring = device.staging_ring(ring_count=1, buffer_size=NBYTES)
    keep_busy(device, runtime)
    ring.close()
    assert device.budget.metrics().host_visible_bytes == NBYTES
    with pytest.raises(BudgetExhausted):
        device.staging_ring(ring_count=1, buffer_size=NBYTES + 1)
    runtime.pending.clear()
    device.staging_ring(ring_count=1, buffer_size=NBYTES + 1).close()
    assert device.budget.metrics().host_visible_bytes == 0
    assert runtime.called("freeHost")
    device.close()


def test_and_is_used_again_clean(device: AssembledDevice, runtime: Runtime) -> None:
    ring = device.staging_ring(ring_count=1, buffer_size=NBYTES)
    slot = ring.allocate(NBYTES)
    assert slot is not None
    slot.view[:] = 7
    slot.release()
    keep_busy(device, runtime)
    for _ in range(10):
        ring.close()
        ring = device.staging_ring(ring_count=1, buffer_size=NBYTES)
        slot = ring.allocate(NBYTES)
        assert slot is not None
        assert not slot.view.any()
        slot.view[:] = 7
        slot.release()
    assert len(runtime.called("hostAlloc")) == 1
    assert device.budget.metrics().host_visible_bytes == NBYTES
    runtime.pending.clear()
    ring.close()
    device.close()


def test_memory_of_one_device_rests_while_another_works(
    hollow_drivers: Callable[[], CudaDriver], runtime: Runtime
) -> None:
    """``cudaFreeHost`` waits for them all."""
    one, other = hollow_drivers(), hollow_drivers()
    block, derived = one.allocate_block(NBYTES, "upload"), one.allocate_block(2 * NBYTES, "upload").view()[1:]
    token = other.submit("compute", [], ())
    assert token.event is not None
    runtime.pending.add(token.event.value)
    address = block.address
    assert one.free(block) is False
    assert one.close(0.0)
    del block, derived
    assert runtime.called("freeHost") == []
    again = other.allocate_block(NBYTES, "readback")
    assert again.address == address
    assert not again.view().any()
    runtime.pending.clear()
    other.retire(token)
    assert len(runtime.called("freeHost")) == 1


def test_host_memory_that_cannot_be_locked_is_told_from_the_device_s(
    device: AssembledDevice, runtime: Runtime
) -> None:
    class NoMemory(RuntimeError):
        status = OUT_OF_MEMORY

    def refuse() -> None:
        runtime.during["hostAlloc"] = refuse  # what is there is called once, and a retry is one more
        raise NoMemory("cudaErrorMemoryAllocation: out of memory")

    runtime.during["hostAlloc"] = refuse
    before = device.budget.metrics()
    with pytest.raises(OutOfHostMemory, match=r"page-locked host memory .*lower the budget"):
        device.staging_ring(ring_count=1, buffer_size=NBYTES)
    assert device.budget.metrics() == before
    del runtime.during["hostAlloc"]
    device.staging_ring(ring_count=1, buffer_size=NBYTES).close()


def test_the_driver_s_figure_is_shown_beside_ours(device: AssembledDevice) -> None:
    buffer = device.create_buffer(512)
    figures = memory_figures(device)
    assert (figures.device_used_bytes, figures.device_total_bytes) == (50 << 30, 80 << 30)
    assert figures.unaccounted_bytes == (50 << 30) - 512
    assert "50 GiB in use of 80 GiB" in repr(figures)
    buffer.close()
    device.close()
    with pytest.raises(Closed):
        memory_figures(device)
