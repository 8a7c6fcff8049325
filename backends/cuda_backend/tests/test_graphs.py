"""Lists that are submitted many times, under a runtime that runs nothing: plain, captured, launched."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from forge3d_core.device import assemble
from forge3d_core.driver import Copy, Dispatch, Fill, PreparedCommands
from forge3d_core.errors import DeviceLost, KernelError
from forge3d_cuda.kernels import CompiledKernel, Entry

if TYPE_CHECKING:
    from forge3d_cuda.driver import CudaDriver

    from .runtime import Runtime

MOST = (1 << 16, 1 << 16, 1 << 16)
STREAMS = {"launchKernel": 8, "memcpyAsync": 4, "memsetAsync": 3}


class NativeError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Interrupt(BaseException):
    pass


@attrs.frozen(eq=False)
class Region:
    native: Any
    nbytes: int = 512


@pytest.fixture
def frame(hollow: Any, hollow_driver: CudaDriver) -> PreparedCommands:
    one, other = (Region(hollow_driver.allocate_buffer(512)) for _ in range(2))
    entry = Entry(hollow, SimpleNamespace(ptr=7), 2, ("f4",))
    program: Any = SimpleNamespace(native=CompiledKernel(entry, "f", (64, 1, 1), (4, 4), MOST))
    dispatch = Dispatch(program, (one, other), (0.5,), (128, 1, 1))
    return PreparedCommands([Fill(one, 0, 512, 1), Copy(one, 0, other, 0, 512), dispatch, dispatch])


def submit(driver: CudaDriver, runtime: Runtime, frame: PreparedCommands, lane: str = "compute") -> list[str]:
    """Return what one submission of it calls, on the lane alone."""
    runtime.calls.clear()
    driver.retire(driver.submit(lane, frame, ()))
    stream = driver._lanes._lanes[lane].stream.value
    return [name for name, *arguments in runtime.calls if stream in arguments and name != "streamWaitEvent"]


def test_it_is_plain_calls_once_and_one_launch_from_then_on(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands
) -> None:
    plain = ["memsetAsync", "memcpyAsync", "launchKernel", "launchKernel"]
    assert submit(hollow_driver, runtime, frame) == [*plain, "eventRecord"]
    assert frame.translation.graph is None
    first = [call for call in runtime.calls if call[0] in plain]
    for lane in ("compute", "compute", "upload"):
        assert submit(hollow_driver, runtime, frame, lane) == ["graphLaunch", "eventRecord"]
    assert len(runtime.called("streamBeginCapture")) == 0  # since the calls were cleared last
    captured = runtime.graphs[frame.translation.graph.value]

    def without_stream(call: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(argument for i, argument in enumerate(call) if i != STREAMS[call[0]] + 1)

    assert [*map(without_stream, captured)] == [*map(without_stream, first)]


@pytest.mark.parametrize(("length", "again"), [(0, []), (1, ["graphLaunch"])])
def test_nothing_is_worth_no_graph_and_one_command_is(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands, length: int, again: list[str]
) -> None:
    del frame[length:]
    assert submit(hollow_driver, runtime, frame) == [*["memsetAsync"] * length, "eventRecord"]
    for _ in range(2):
        assert submit(hollow_driver, runtime, frame) == [*again, "eventRecord"]


def test_translating_again_costs_nothing(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(hollow_driver, runtime, frame)
    monkeypatch.setattr(type(hollow_driver._lanes), "_translate", None)
    for _ in range(2):
        submit(hollow_driver, runtime, frame)


@pytest.mark.parametrize(
    "refused", ["streamBeginCapture", "launchKernel", "streamEndCapture", "graphInstantiate"]
)
def test_what_cannot_be_captured_stays_plain(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands, refused: str
) -> None:
    def refuse() -> None:
        raise NativeError(900)

    plain = submit(hollow_driver, runtime, frame)
    runtime.during[refused] = refuse
    for _ in range(3):
        assert submit(hollow_driver, runtime, frame) == plain
    assert not runtime._capturing


@pytest.mark.parametrize("during", ["streamCreateWithFlags", "streamBeginCapture", "memcpyAsync"])
def test_an_interrupt_in_a_capture_leaves_nothing_behind(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands, during: str
) -> None:
    def interrupt() -> None:
        raise Interrupt

    submit(hollow_driver, runtime, frame)
    runtime.during[during] = interrupt
    with pytest.raises(Interrupt):
        hollow_driver.submit("compute", frame, ())
    gc.collect()
    assert not runtime._capturing
    assert not runtime.graphs
    assert hollow_driver._lanes.idle
    assert submit(hollow_driver, runtime, frame) == ["graphLaunch", "eventRecord"]


def test_a_graph_stays_while_it_runs(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands
) -> None:
    for _ in range(2):
        submit(hollow_driver, runtime, frame)
    token = hollow_driver.submit("compute", frame, ())
    frame.translation = None
    gc.collect()
    assert runtime.called("graphExecDestroy") == []
    hollow_driver.retire(token)
    assert len(runtime.called("graphExecDestroy")) == 1
    assert not runtime.graphs


@pytest.mark.parametrize(("status", "kind"), [(9, KernelError), (700, DeviceLost)])
def test_a_refused_launch_says_so_and_changes_nothing(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands, status: int, kind: type[Exception]
) -> None:
    def refuse() -> None:
        raise NativeError(status)

    for _ in range(2):
        submit(hollow_driver, runtime, frame)
    runtime.during["graphLaunch"] = refuse
    with pytest.raises(kind):
        hollow_driver.submit("compute", frame, ())
    assert hollow_driver._lanes.idle
    assert submit(hollow_driver, runtime, frame) == ["graphLaunch", "eventRecord"]


def test_an_interrupted_launch_keeps_the_graph_until_it_has_ended(
    hollow_driver: CudaDriver, runtime: Runtime, frame: PreparedCommands
) -> None:
    def interrupt() -> None:
        raise Interrupt

    for _ in range(2):
        submit(hollow_driver, runtime, frame)
    runtime.during["graphLaunch"] = interrupt
    with pytest.raises(Interrupt):
        hollow_driver.submit("compute", frame, ())
    runtime.pending.add(runtime.called("eventRecord")[-1][0])
    frame.translation = None
    gc.collect()
    assert not hollow_driver._lanes.idle
    assert runtime.called("graphExecDestroy") == []
    runtime.pending.clear()
    assert hollow_driver._lanes.idle
    assert len(runtime.called("graphExecDestroy")) == 1


def test_a_reusable_list_of_the_device_is_launched_as_one_and_goes_with_it(
    hollow_driver: CudaDriver, runtime: Runtime
) -> None:
    device = assemble(hollow_driver)
    buffer = device.create_buffer(512)
    commands = device.command_list(reusable=True).fill(buffer, 1, nbytes=100).fill(buffer, 2, offset=200)
    for _ in range(4):
        device.submit(commands).wait(1.0)
    assert len(runtime.called("graphLaunch")) == 3
    assert len(runtime.graphs) == 1
    device.close()
    assert not runtime.graphs
    del device, buffer, commands
    gc.collect()
    for taken, given in (("stream", "streamDestroy"), ("event", "eventDestroy")):
        assert len(runtime.called(f"{taken}CreateWithFlags")) == len(runtime.called(given))
