from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_conformance.kernels import INCREMENT
from forge3d_core.device.device import AssembledDevice, assemble
from forge3d_core.driver import PreparedCommands
from forge3d_core.errors import Closed, ForeignObject, KernelError, OutOfRange, StateError, UsageError
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.protocols import Binding, CommandList, Kernel, KernelSource, Param


def scale(threads: tuple[int, int, int], source: Any, target: Any, factor: float) -> None:
    target[: threads[0]] = source[: threads[0]] * np.float32(factor)


SCALE = KernelSource(
    "scale",
    {"host": scale},
    bindings=(Binding("source", "read", "f4"), Binding("target", "write", "f4")),
    params=(Param("factor", "f4"),),
)


def contents(device: AssembledDevice, buffer: Any, dtype: Any = np.uint8) -> Any:
    device.wait_idle(20)
    return np.asarray(buffer.native)[: buffer.nbytes].view(dtype).tolist()


def test_lists_and_kernels_satisfy_their_protocols(device: AssembledDevice) -> None:
    assert isinstance(device.command_list(), CommandList)
    kernel = device.create_kernel(SCALE)
    assert isinstance(kernel, Kernel)
    assert (kernel.source, kernel.language, kernel.native) == (SCALE, "host", scale)
    assert device.create_kernel(SCALE) is kernel


def test_commands_run_in_order_and_see_each_other(device: AssembledDevice) -> None:
    a, b = device.create_buffer(8), device.create_buffer(8)
    commands = (
        device.command_list()
        .fill(a, 1)
        .copy(a, b, 4)
        .fill(b, 9, offset=3, nbytes=2)
        .copy(b, a, source_offset=1)
    )
    assert len(commands) == 4
    device.submit(commands)
    assert contents(device, b) == [1, 1, 1, 9, 9, 0, 0, 0]
    assert contents(device, a) == [1, 1, 9, 9, 0, 0, 0, 1]


def test_a_dispatch(device: AssembledDevice) -> None:
    a, b = device.create_buffer(16), device.create_buffer(16)
    kernel = device.create_kernel(SCALE)
    with device.staging_ring() as ring:
        ring.upload(np.arange(4, dtype="f4"), a)
        device.submit(device.command_list().dispatch(kernel, [a, b], [np.float32(2.5)], threads=3))
    assert contents(device, b, "f4") == [0, 2.5, 5, 0]


def test_nothing_recorded_is_nothing_run(device: AssembledDevice) -> None:
    a = device.create_buffer(8)
    commands = (
        device.command_list()
        .fill(a, 1, nbytes=0)
        .copy(a, a, 0)
        .copy(a, device.create_buffer(4), source_offset=8)
    )
    assert len(commands) == 0
    device.submit(commands).wait(20)


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (lambda c, a, b: c.copy(a, b, 9), OutOfRange),
        (lambda c, a, b: c.copy(a, b, -1), OutOfRange),
        (lambda c, a, b: c.copy(a, b, source_offset=9), OutOfRange),
        (lambda c, a, b: c.copy(a, b, 1, target_offset=-1), OutOfRange),
        (lambda c, a, b: c.copy(a, a, 4, target_offset=3), OutOfRange),
        (lambda c, a, b: c.copy(a, a), OutOfRange),
        (lambda c, a, b: c.copy(a, b, 1.5), UsageError),
        (lambda c, a, b: c.copy(a, None), ForeignObject),
        (lambda c, a, b: c.fill(a, 256), UsageError),
        (lambda c, a, b: c.fill(a, -1), UsageError),
        (lambda c, a, b: c.fill(a, 0.5), UsageError),
        (lambda c, a, b: c.fill(a, 0, offset=9), OutOfRange),
        (lambda c, a, b: c.fill(np.zeros(4), 0), ForeignObject),
        (lambda c, a, b: c.dispatch(scale, [a, b], [1], threads=1), ForeignObject),
    ],
)
def test_a_bad_call_raises_at_its_own_line_and_records_nothing(
    device: AssembledDevice, record: Callable[..., Any], error: type[Exception]
) -> None:
    commands, a, b = device.command_list(), device.create_buffer(8), device.create_buffer(8)
    with pytest.raises(error):
        record(commands, a, b)
    assert len(commands) == 0
    commands.copy(a, a, 4, target_offset=4)  # disjoint parts of one buffer


@pytest.mark.parametrize(
    ("count", "params", "threads", "error"),
    [
        (1, [1.0], 1, KernelError),
        (3, [1.0], 1, KernelError),
        (2, [], 1, KernelError),
        (2, [1.0, 2.0], 1, KernelError),
        (2, ["1"], 1, KernelError),
        (2, [None], 1, KernelError),
        (2, [1.0], 0, UsageError),
        (2, [1.0], (), UsageError),
        (2, [1.0], (1, 1, 1, 1), UsageError),
        (2, [1.0], (1, -1), UsageError),
        (2, [1.0], 1.5, UsageError),
        (2, [1.0], "ab", UsageError),
        (2, [1.0], 64 * 65535 + 1, UsageError),
    ],
)
def test_a_dispatch_that_does_not_match_its_kernel(
    device: AssembledDevice, count: int, params: Any, threads: Any, error: type[Exception]
) -> None:
    kernel, commands = device.create_kernel(SCALE), device.command_list()
    buffers = [device.create_buffer(8) for _ in range(count)]
    with pytest.raises(error):
        commands.dispatch(kernel, buffers, params, threads=threads)
    assert len(commands) == 0


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("u4", [0, 2**32 - 1, 3.0, np.uint64(7)], [-1, 2**32, 0.5, float("nan"), float("inf")]),
        ("i4", [-(2**31), 2**31 - 1, np.int8(-3)], [-(2**31) - 1, 2**31, 1.5]),
        ("f4", [0, -1.5, float("inf"), np.float64(2)], ["1", None, 1j]),
    ],
)
def test_parameters_are_in_range(
    device: AssembledDevice, dtype: str, good: list[Any], bad: list[Any]
) -> None:
    seen: list[Any] = []
    kernel = device.create_kernel(
        KernelSource(
            "note", {"host": lambda _threads, value: seen.append(value)}, params=(Param("value", dtype),)
        )
    )
    for value in good:
        device.submit(device.command_list().dispatch(kernel, [], [value], threads=1)).wait(20)
    assert seen == good
    assert all(type(value) in (int, float) for value in seen)
    for value in bad:
        with pytest.raises(KernelError, match="value"):
            device.command_list().dispatch(kernel, [], [value], threads=1)


def test_a_list_is_submitted_once(device: AssembledDevice) -> None:
    buffer = device.create_buffer(8)
    commands = device.command_list().fill(buffer, 1)
    device.submit(commands)
    for again in (lambda: device.submit(commands), lambda: commands.fill(buffer, 2)):
        with pytest.raises(StateError, match="once"):
            again()
    assert contents(device, buffer) == [1] * 8


def test_a_submission_that_fails_gives_the_list_back(device: AssembledDevice) -> None:
    buffer = device.create_buffer(8)
    commands = device.command_list().fill(buffer, 1)
    future = device.lanes["upload"].timeline.point(5)
    for wrong in ({"lane": "sideways"}, {"after": [future]}, {"after": future}, {"after": [None]}):
        with pytest.raises(UsageError):
            device.submit(commands, **wrong)
    device.submit(commands)
    assert contents(device, buffer) == [1] * 8


def test_closed_buffers_are_noticed_when_recorded_and_when_submitted(device: AssembledDevice) -> None:
    buffer = device.create_buffer(8)
    commands = device.command_list().fill(buffer, 1)
    buffer.close()
    with pytest.raises(Closed):
        commands.fill(buffer, 2)
    with pytest.raises(Closed):
        device.submit(commands)


def test_foreign_lists_and_kernels(open_device: Callable[..., AssembledDevice]) -> None:
    here, there = open_device(), open_device()
    with pytest.raises(ForeignObject):
        here.submit(there.command_list())
    with pytest.raises(ForeignObject):
        here.submit(None)  # type: ignore[arg-type]
    with pytest.raises(ForeignObject):
        here.command_list().dispatch(there.create_kernel(SCALE), [], threads=1)


class Translating(HostDriver):
    """Keeps something of its own for commands that come many times, and notes for which it had one."""

    def __init__(self) -> None:
        super().__init__(HostMachine())
        self.had: list[object] = []

    def submit(self, lane: str, commands: Any, after: Any) -> Any:
        if isinstance(commands, PreparedCommands):
            self.had.append(commands.translation)
            commands.translation = commands.translation or ["made of", list(commands)]
        return super().submit(lane, commands, after)


def test_a_reusable_list_is_submitted_again_and_again() -> None:
    driver = Translating()
    with assemble(driver) as device:
        a, b = device.create_buffer(4), device.create_buffer(4)
        kernel = device.create_kernel(INCREMENT)
        commands = device.command_list(reusable=True).dispatch(kernel, [a], [1, 1], threads=1).copy(a, b)
        for times in range(1, 4):
            device.submit(commands, lane=("compute", "download")[times % 2]).wait(20)
            assert contents(device, b, "u4") == [times]
        assert len({id(one) for one in driver.had}) == 2
        assert driver.had[0] is None
        with pytest.raises(StateError, match="stays as it is"):
            commands.fill(a, 0)
        device.submit(device.command_list().fill(a, 0))
        assert len(driver.had) == 3
        b.close()
        with pytest.raises(Closed):
            device.submit(commands)
        assert commands.commands.translation is not None
    assert commands.commands.translation is None
    with pytest.raises(Closed):
        device.submit(commands)


def test_reusable_is_a_flag(device: AssembledDevice) -> None:
    with pytest.raises(UsageError, match="reusable"):
        device.command_list(reusable=1)  # type: ignore[arg-type]
