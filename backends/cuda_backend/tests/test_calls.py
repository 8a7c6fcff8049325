"""What a submission costs, under a runtime that runs nothing: calls of the runtime, and calls of Python."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from forge3d_core.driver import Command, Dispatch, Fill, Upload
from forge3d_core.units import MIB
from forge3d_cuda.kernels import CompiledKernel, Entry

if TYPE_CHECKING:
    from forge3d_cuda.driver import CudaDriver

    from .runtime import Runtime

MOST = (1 << 16, 1 << 16, 1 << 16)


@attrs.frozen(eq=False)
class Region:
    native: Any
    nbytes: int = 512


@attrs.define(eq=False)
class Steady:
    """A driver that has submitted to each lane before; counts what one more submission calls."""

    driver: CudaDriver
    runtime: Runtime
    kept: list[object] = attrs.field(factory=list)  # tokens that were dropped would have their events go

    def native(self, act: Callable[[], object]) -> list[str]:
        """Return the names of the calls of the runtime, in order."""
        self.runtime.calls.clear()
        self.kept.append(act())
        return [name for name, *_ in self.runtime.calls]

    def python(self, act: Callable[[], object]) -> int:
        """Return how many functions of this package and the core are entered, ``act`` not counted."""
        entered: list[str] = []

        def note(frame: FrameType, event: str, _argument: object) -> None:
            if (
                event == "call"
                and "forge3d" in frame.f_code.co_filename
                and "/tests/" not in frame.f_code.co_filename
            ):
                entered.append(frame.f_code.co_qualname)

        gc.disable()  # it may find handles of other tests, whose finalizers are functions, too
        sys.setprofile(note)
        try:
            self.kept.append(act())
        finally:
            sys.setprofile(None)
            gc.enable()
        return len(entered)

    def program(self, pointers: int = 1, scalars: tuple[str, ...] = ()) -> Any:
        entry = Entry(self.driver._cupy, SimpleNamespace(ptr=7), pointers, scalars)
        return SimpleNamespace(native=CompiledKernel(entry, "f", (64, 1, 1), (4,) * pointers, MOST))


@pytest.fixture
def steady(hollow_driver: CudaDriver, runtime: Runtime) -> Steady:
    for _ in range(2):
        tokens = [hollow_driver.submit(lane, [], ()) for lane in ("upload", "compute", "download")]
        for token in tokens:
            hollow_driver.retire(token)
    return Steady(hollow_driver, runtime)


@pytest.fixture
def region(steady: Steady) -> Region:
    buffer = Region(steady.driver.allocate_buffer(512))
    for lane in ("upload", "compute", "download"):  # which come behind its zeroing once
        steady.driver.retire(steady.driver.submit(lane, [], ()))
    return buffer


@pytest.fixture
def commands(steady: Steady, region: Region) -> dict[str, Command]:
    block = steady.driver.allocate_block(512, "upload")
    return {
        "launchKernel": Dispatch(steady.program(), (region,), (), (64, 1, 1)),
        "memcpyAsync": Upload(block, 0, region, 0, 512),
        "memsetAsync": Fill(region, 0, 512, 1),
    }


@pytest.mark.parametrize("name", ["launchKernel", "memcpyAsync", "memsetAsync"])
def test_one_command_costs_its_call_and_one_event(
    steady: Steady, commands: dict[str, Command], name: str
) -> None:
    submit = steady.driver.submit
    assert steady.native(lambda: submit("compute", [commands[name]], ())) == [
        "getDevice",
        name,
        "eventRecord",
    ]


@pytest.mark.parametrize("name", ["launchKernel", "memcpyAsync", "memsetAsync"])
def test_and_few_calls_of_python(steady: Steady, commands: dict[str, Command], name: str) -> None:
    submit, one = steady.driver.submit, [commands[name]]
    first = steady.python(lambda: submit("compute", one, ()))
    assert first <= 8
    assert steady.python(lambda: submit("compute", one * 101, ())) - first <= 200


def test_query_and_retire(steady: Steady) -> None:
    driver = steady.driver
    token = driver.submit("compute", [], ())
    assert steady.native(lambda: driver.query(token)) == ["eventQuery"]
    assert steady.python(lambda: driver.query(token)) <= 2
    assert steady.python(lambda: driver.wait(token, 1.0)) <= 5
    assert steady.native(lambda: driver.retire(token)) == []
    assert steady.native(lambda: driver.query(token)) == []
    other = driver.submit("compute", [], ())
    assert steady.python(lambda: driver.retire(other)) <= 3


def test_many_uploads_cost_a_call_each_and_one_event_from_any_thread(steady: Steady, region: Region) -> None:
    block = steady.driver.allocate_block(4 * MIB, "upload")
    big = Region(region.native, 96 * MIB)
    uploads: list[Command] = [Upload(block, 0, big, 4 * MIB * i, 4 * MIB) for i in range(24)]

    def submit() -> None:
        steady.driver.retire(steady.driver.submit("upload", uploads, ()))

    def twice() -> None:
        submit()  # a new thread makes the device's context current once
        calls.extend(steady.native(submit))

    calls: list[str] = []
    thread = threading.Thread(target=twice)
    thread.start()
    thread.join()
    assert calls == ["getDevice", *["memcpyAsync"] * 24, "eventRecord"]


def test_a_new_thread_binds_the_context_before_it_launches(
    steady: Steady, commands: dict[str, Command]
) -> None:
    def submit() -> None:
        calls.extend(steady.native(lambda: steady.driver.submit("compute", [commands["launchKernel"]], ())))

    calls: list[str] = []
    thread = threading.Thread(target=submit)
    thread.start()
    thread.join()
    assert calls.index("setDevice") < calls.index("launchKernel")


def test_a_lane_waits_for_a_submission_of_another_once(steady: Steady) -> None:
    driver = steady.driver

    def waits(lane: str, after: object) -> int:
        return steady.native(lambda: driver.submit(lane, [], (after,))).count("streamWaitEvent")

    first, second = (driver.submit("upload", [], ()) for _ in range(2))
    assert [waits("compute", after) for after in (second, first, second)] == [1, 0, 0]
    assert [waits("download", after) for after in (first, second)] == [1, 1]
    third = driver.submit("upload", [], ())
    assert [waits(lane, third) for lane in ("upload", "compute")] == [0, 1]


def test_no_event_is_made_in_the_steady_state(steady: Steady, commands: dict[str, Command]) -> None:
    driver = steady.driver
    for _ in range(10):
        assert "eventCreateWithFlags" not in steady.native(
            lambda: driver.retire(driver.submit("compute", list(commands.values()), ()))
        )


def test_a_launch_passes_addresses_and_numbers_as_the_kernel_declares_them(
    steady: Steady, region: Region
) -> None:
    other = Region(SimpleNamespace(data=SimpleNamespace(ptr=(1 << 47) + 512)))
    program = steady.program(2, ("u4", "i4", "f4"))
    seen: list[Any] = []

    def look() -> None:
        address = steady.runtime.calls[-1][10]  # its name is the first
        slots = (ctypes.c_void_p * 5).from_address(address)
        kinds = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int32, ctypes.c_float)
        seen.extend(kind.from_address(slot).value for kind, slot in zip(kinds, slots, strict=True))

    steady.runtime.during["launchKernel"] = look
    command = Dispatch(program, (region, other), (2**32 - 1, -(2**31), 0.5), (65, 3, 1))
    steady.driver.submit("compute", [command], ())
    assert seen == [region.native.data.ptr, (1 << 47) + 512, 2**32 - 1, -(2**31), 0.5]
    stream = steady.driver._lanes._lanes["compute"].stream.value
    launched = steady.runtime.called("launchKernel")[-1]
    assert launched[:9] == [7, 2, 3, 1, 64, 1, 1, 0, stream]
    assert launched[10] == 0


def test_ranges_go_to_nvtx() -> None:
    from forge3d_cuda.driver import CudaDriver

    pushed: list[Any] = []
    nvtx = SimpleNamespace(RangePush=pushed.append, RangePop=lambda: pushed.append(None))
    driver: Any = SimpleNamespace(_cupy=SimpleNamespace(cuda=SimpleNamespace(nvtx=nvtx)))
    CudaDriver.push_range(driver, "upload")
    CudaDriver.pop_range(driver)
    assert pushed == ["upload", None]
