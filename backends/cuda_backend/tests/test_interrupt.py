"""Interrupts at the worst moments, under a runtime that runs nothing: the device keeps what it uses."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from forge3d_core.driver import Download, Fill
from forge3d_core.errors import DeviceLost

if TYPE_CHECKING:
    from forge3d_cuda.driver import CudaDriver

    from .runtime import Runtime

NBYTES = 4096


class Interrupt(BaseException):
    """What a signal's handler may raise anywhere; a KeyboardInterrupt would end the tests where one fails."""


def interrupt() -> None:
    raise Interrupt


@attrs.frozen(eq=False)
class Region:
    native: Any
    nbytes: int = NBYTES


@attrs.define(eq=False)
class Bench:
    """A driver over the runtime, and a submission of it that an interrupt cut short."""

    driver: CudaDriver
    runtime: Runtime
    buffer: Region | None
    block: Any
    event: int = 0

    def stream(self, lane: str) -> int:
        return self.driver._lanes._lanes[lane].stream.value

    def cut_short(self, during: str) -> None:
        """Interrupt a fill and a download on the compute lane; the device is still busy with them."""
        self.runtime.during[during] = interrupt
        commands = [Fill(self.buffer, 0, NBYTES, 1), Download(self.buffer, 0, self.block, 0, NBYTES)]
        with pytest.raises(Interrupt):
            self.driver._lanes.submit("compute", commands, ())
        self.event = self.runtime.called("eventRecord")[-1][0]
        self.runtime.pending.add(self.event)


@pytest.fixture
def bench(hollow_driver: CudaDriver, runtime: Runtime) -> Bench:
    buffer, block = hollow_driver.allocate_buffer(NBYTES), hollow_driver.allocate_block(NBYTES, "readback")
    return Bench(hollow_driver, runtime, Region(buffer), block)


ANYWHERE = pytest.mark.parametrize("during", ["streamWaitEvent", "memsetAsync", "memcpyAsync", "eventRecord"])


@ANYWHERE
def test_every_lane_comes_after_what_an_interrupt_left_in_flight(bench: Bench, during: str) -> None:
    bench.cut_short(during)
    assert bench.runtime.called("eventRecord")[-1] == [bench.event, bench.stream("compute")]
    waits = bench.runtime.called("streamWaitEvent")
    assert [bench.stream("upload"), bench.event] in waits
    assert [bench.stream("download"), bench.event] in waits


@ANYWHERE
def test_the_lanes_are_idle_again_once_it_has_ended(bench: Bench, during: str) -> None:
    lanes = bench.driver._lanes
    bench.cut_short(during)
    assert not lanes.idle
    lanes.retire(lanes.submit("compute", [], ()))
    assert not lanes.idle
    bench.runtime.pending.clear()
    assert lanes.idle


def test_memory_that_it_uses_is_not_given_back_before(bench: Bench) -> None:
    bench.cut_short("memcpyAsync")
    address, bench.block, bench.buffer = bench.block.address, None, None
    gc.collect()
    assert bench.runtime.called("freeHost") == bench.runtime.called("freeAsync") == []
    bench.runtime.pending.clear()
    bench.driver.retire(bench.driver._lanes.submit("upload", [], ()))
    assert bench.runtime.called("freeHost") == [[address]]
    assert len(bench.runtime.called("freeAsync")) == 1


def test_an_error_of_pythons_midway_is_no_different(bench: Bench) -> None:
    def fail() -> None:
        raise MemoryError

    bench.runtime.during["memcpyAsync"] = fail
    with pytest.raises(MemoryError):
        bench.driver._lanes.submit(
            "compute", [Fill(bench.buffer, 0, 8, 1), Download(bench.buffer, 0, bench.block, 0, 8)], ()
        )
    assert bench.driver._lanes.idle


def test_an_error_of_cudas_midway_is_the_loss_of_the_device(bench: Bench) -> None:
    def fail() -> None:
        raise RuntimeError("refused")

    bench.runtime.during["memcpyAsync"] = fail
    with pytest.raises(DeviceLost):
        bench.driver._lanes.submit(
            "compute", [Fill(bench.buffer, 0, 8, 1), Download(bench.buffer, 0, bench.block, 0, 8)], ()
        )


def test_an_interrupt_while_a_block_is_zeroed_gives_it_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("forge3d_cuda.staging.ctypes.memset", lambda *_arguments: interrupt())
        with pytest.raises(Interrupt):
            bench.driver._staging.allocate(3 * NBYTES)
    bench.driver._staging.free_list.trim()
    assert len(bench.runtime.called("freeHost")) == 1


def test_an_interrupted_close_gives_nothing_back_and_can_be_made_up_for(bench: Bench) -> None:
    bench.cut_short("memcpyAsync")
    bench.runtime.during["streamQuery"] = interrupt
    with pytest.raises(Interrupt):
        bench.driver.close(60.0)
    address, bench.block, bench.buffer = bench.block.address, None, None
    gc.collect()
    assert not bench.driver.close(0.0)
    for name in ("streamDestroy", "eventDestroy", "freeHost", "freeAsync"):
        assert bench.runtime.called(name) == []
    bench.runtime.pending.clear()
    assert bench.driver.close(0.0)
    assert len({stream for (stream,) in bench.runtime.called("streamDestroy")}) == 4  # the memory's, too
    assert [bench.event] in bench.runtime.called("eventDestroy")
    assert bench.runtime.called("freeHost") == [[address]]
    assert len(bench.runtime.called("freeAsync")) == 1
