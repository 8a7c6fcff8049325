"""What a submission costs in native and in Python calls, as upper bounds; both dialects do the same."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import attrs
import numpy as np
import pytest
from wgpu.backends.wgpu_native import _api, lib

from forge3d_core.driver import (
    Command,
    Copy,
    Dispatch,
    Download,
    DownloadRows,
    Fill,
    PreparedCommands,
    Upload,
    UploadRows,
)
from forge3d_core.errors import ForgeError
from forge3d_core.formats import texture_format
from forge3d_core.protocols import Binding, Param
from forge3d_wgpu import native
from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.native import DirectCalls, PublicCalls, choose

ADD = """
struct Params { n: u32, step: u32 }
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;
@compute @workgroup_size(64)
fn add(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < p.n) { data[id.x] = data[id.x] * 3u + p.step; }
}
"""


class Counting:
    """wgpu-native's library, with its calls counted by name."""

    def __init__(self, real: Any, counts: Counter[str]) -> None:
        self._real, self._counts = real, counts

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if not name.startswith("wgpu"):
            return real

        def call(*arguments: Any) -> Any:
            self._counts[name] += 1
            return real(*arguments)

        setattr(self, name, call)
        return call


@pytest.fixture
def native_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the native calls of all that is opened afterwards, those through wgpu-py's objects as well."""
    counts: Counter[str] = Counter()
    counted, safe = Counting(lib, counts), Counting(_api.libf, counts)
    for name, module in list(sys.modules.items()):
        if name.startswith("forge3d_wgpu.") or module is _api:
            for attribute, replaced in (("lib", counted), ("libf", safe)):
                if hasattr(module, attribute):
                    monkeypatch.setattr(module, attribute, replaced)
    for kind in vars(_api).values():
        release = vars(kind).get("_release_function") if isinstance(kind, type) else None
        if release is not None:
            monkeypatch.setattr(kind, "_release_function", getattr(safe, release.__name__))
    return counts


@attrs.frozen(eq=False)
class Commands:
    """One list of each kind, over memory of one rig."""

    lists: dict[str, list[Command]]
    add: Callable[[int], Dispatch]
    data: Any


def commands_of(rig: Any) -> Commands:
    data = rig.buffer(4096)
    kernel = rig.kernel("add", ADD, Binding("data", "readwrite", "u4"), Param("n"), Param("step"))

    def add(step: int) -> Dispatch:
        return Dispatch(kernel, (data,), (16, step), (16, 1, 1))

    lists: dict[str, list[Command]] = {
        "clear": [Fill(data, 0, 4096, 0)],
        "fill": [Fill(data, 0, 4, 3)],
        "dispatch": [add(1)],
        "256 dispatches": [add(1)] * 256,
        "upload": [Upload(rig.block(np.ones(4096, np.uint8)), 0, data, 0, 4096)],
        "download": [Download(data, 0, rig.driver.allocate_block(4096, "readback"), 0, 4096)],
    }
    return Commands(lists, add, data)


def python_calls(operation: Callable[[], Any]) -> tuple[Any, int]:
    """Return what ``operation`` returns, and how many Python functions it enters."""
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        result = operation()
    finally:
        sys.setprofile(before)
    return result, calls


NATIVE_BOUNDS = {"clear": 7, "fill": 12, "dispatch": 12, "256 dispatches": 267, "upload": 8, "download": 8}
"""Of a submission in the steady state, on an idle device; of which four are encoder and command buffer."""

PYTHON_BOUNDS = {
    "clear": 31,
    "fill": 42,
    "dispatch": 39,
    "256 dispatches": 1100,
    "upload": 33,
    "download": 33,
}
"""They may be lowered and never raised."""

QUERY_BOUND = 11
"""Of a query that has to ask, in Python calls."""

POLL = 1  # native calls of a query, and the address of each block that was mapped again


@pytest.fixture
def counted(native_calls: Counter[str], rigs: Callable[[], Any]) -> Iterator[tuple[Any, Commands]]:
    rig = rigs()
    yield rig, commands_of(rig)
    rig.close()


@pytest.mark.parametrize("kind", NATIVE_BOUNDS)
def test_a_submission_makes_no_more_native_calls(
    native_calls: Counter[str], counted: tuple[Any, Commands], kind: str
) -> None:
    rig, commands = counted
    for _ in range(3):
        rig.run(*commands.lists[kind])
    native_calls.clear()
    token = rig.submit(*commands.lists[kind])
    assert native_calls["wgpuQueueSubmit"] == 1
    assert native_calls["wgpuQueueWriteBuffer"] == 0  # its parameters are there
    assert 6 <= native_calls.total() <= NATIVE_BOUNDS[kind], native_calls
    rig.driver._lanes._checked = float("inf")  # a look at the device now and then is beside the point
    native_calls.clear()
    rig.driver.query(token)
    assert native_calls.total() <= POLL
    rig.finish(token)
    native_calls.clear()
    for command in commands.lists[kind][:1]:
        if isinstance(command, (Upload, Download)):
            command.block.view()
            command.block.view()
    assert native_calls.total() <= 1


@pytest.mark.parametrize("kind", PYTHON_BOUNDS)
def test_a_submission_enters_no_more_python_functions(rig: Any, kind: str) -> None:
    commands = commands_of(rig).lists[kind]
    for _ in range(3):
        rig.run(*commands)
    rig.driver._lanes._checked = float("inf")  # a look at the device now and then is beside the point
    submits, queries = [], []
    for _ in range(5):  # the least of some: the collector may come upon finalizers at any time
        token, calls = python_calls(lambda: rig.submit(*commands))
        submits.append(calls)
        queries.append(python_calls(partial(rig.driver.query, token))[1])
        rig.finish(token)
    assert 0 < min(submits) <= PYTHON_BOUNDS[kind]
    assert 0 < min(queries) <= QUERY_BOUND
    assert python_calls(partial(rig.driver.query, token))[1] <= 2


def test_parameters_that_change_are_written_once_for_a_submission(
    native_calls: Counter[str], counted: tuple[Any, Commands]
) -> None:
    rig, commands = counted
    rig.run(commands.add(0))
    native_calls.clear()
    rig.run(*[commands.add(step) for step in range(1, 33)])
    assert native_calls["wgpuQueueWriteBuffer"] == 1
    expected = 0
    for step in range(33):
        expected = (expected * 3 + step) % 2**32
    assert rig.read(commands.data).view("u4")[:17].tolist() == [expected] * 16 + [0]


@pytest.mark.parametrize("sets", [1, 64, 65, 200])
def test_every_dispatch_finds_its_own_parameters(rig: Any, sets: int) -> None:
    """Some lists need more than one buffer for them; submissions in flight share those."""
    commands, expected = commands_of(rig), 0
    tokens = []
    for first in (1, 1000, 1):
        steps = range(first, first + sets)
        tokens.append(rig.submit(*map(commands.add, steps)))
        for step in steps:
            expected = (expected * 3 + step) % 2**32
    for token in tokens:
        rig.finish(token)
    assert rig.read(commands.data).view("u4")[:16].tolist() == [expected] * 16


def test_a_list_that_comes_many_times_is_translated_once(
    native_calls: Counter[str], counted: tuple[Any, Commands]
) -> None:
    rig, commands = counted
    frame = PreparedCommands([commands.add(1), commands.add(2)])
    other = [commands.add(3)]
    rig.finish(rig.driver.submit("compute", frame, ()))
    translation, expected = frame.translation, 5
    rig.finish(rig.driver.submit("compute", frame, ()))  # the parameters of `other` do not displace its own
    for _ in range(3):
        native_calls.clear()
        token, calls = python_calls(lambda: rig.driver.submit("compute", frame, ()))
        rig.finish(token)
        assert native_calls["wgpuQueueWriteBuffer"] == native_calls["wgpuDeviceCreateBindGroup"] == 0
        assert calls <= 60  # each native call counts as one here
        rig.run(*other)
    assert frame.translation is translation
    value = 0
    for step in [1, 2, 1, 2, *[1, 2, 3] * 3]:
        value = (value * 3 + step) % 2**32
    assert rig.read(commands.data).view("u4")[:16].tolist() == [value] * 16
    assert expected == 5


def test_a_prepared_list_lets_go_of_memory_that_is_freed(rig: Any) -> None:
    import wgpu

    def buffers() -> int:
        count: int = wgpu.diagnostics.wgpu_native_counts.get_dict()["Buffer"]["count"]
        return count

    commands, other = commands_of(rig), rig.buffer(64)
    frame = PreparedCommands([commands.add(1), Fill(other, 0, 64, 3)])
    rig.finish(rig.driver.submit("compute", frame, ()))
    assert not frame.translation.dropped
    before = buffers()
    rig.driver.free(other.native)
    assert frame.translation.dropped
    rig.run()  # wgpu frees behind the next submission
    assert buffers() < before


def test_a_bind_group_serves_again_and_goes_with_its_memory(
    native_calls: Counter[str], counted: tuple[Any, Commands]
) -> None:
    rig, commands = counted
    first, second = rig.buffer(64), rig.buffer(64)
    for memory in (first, second, first, second):
        rig.run(Fill(memory, 0, 64, 3))
    native_calls.clear()
    rig.run(Fill(first, 0, 64, 4), Fill(second, 1, 3, 4), commands.add(1))
    rig.run(Fill(first, 7, 5, 4))
    assert native_calls["wgpuDeviceCreateBindGroup"] <= 1  # of the kernel, which is new
    native_calls.clear()
    rig.driver.free(first.native)
    assert native_calls["wgpuBufferRelease"] == 1
    kept = rig.driver._groups._kept
    assert kept
    assert not any(first.native is part.buffer for key in kept for part in key[1:])


def test_no_bind_group_keeps_memory_that_was_adopted(rig: Any) -> None:
    import wgpu

    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
    mine = rig.driver.native.create_buffer(size=64, usage=usage)
    memory = type(rig.buffer(4))(rig.driver.adopt(mine)[0], 64)
    rig.run(Fill(memory, 0, 64, 3))
    rig.run(Fill(memory, 0, 64, 4))
    assert (rig.read(memory) == 4).all()
    assert not rig.driver._groups._kept


@pytest.fixture(params=[DirectCalls, PublicCalls])
def spoken(request: pytest.FixtureRequest, rigs: Callable[[], Any], monkeypatch: Any) -> Iterator[Any]:
    """Return a rig that speaks one of the dialects."""
    dialect = request.param()
    for module in ("groups", "kernels"):
        monkeypatch.setattr(f"forge3d_wgpu.{module}.CALLS", dialect)
    rig = rigs()
    assert rig.driver._groups.calls is dialect
    yield rig
    rig.close()


def test_both_dialects_do_the_same(spoken: Any) -> None:
    rig, commands = spoken, commands_of(spoken)
    other = rig.buffer(4096)
    format = texture_format("rgba8unorm")
    image = rig.image(64, 4, format)
    texels = np.random.default_rng(3).integers(0, 256, (4, 256), dtype=np.uint8)
    readback = rig.driver.allocate_block(texels.nbytes, "readback")
    for _ in range(2):
        rig.run(
            Fill(commands.data, 0, 4096, 0),
            *[commands.add(step) for step in range(70)],
            Copy(commands.data, 0, other, 1, 63),
            Fill(other, 64, 64, 7),
            Copy(other, 64, other, 2048, 4),
            UploadRows(rig.block(texels), 0, 256, image, (0, 0), (64, 4)),
            DownloadRows(image, (0, 0), (64, 4), readback, 0, 256),
        )
        expected = 0
        for step in range(70):
            expected = (expected * 3 + step) % 2**32
        words = np.full(16, expected, "u4")
        assert rig.read(commands.data).view("u4")[:17].tolist() == [*words, 0]
        read = rig.read(other)
        assert read[:64].tolist() == [0, *words.view(np.uint8)[:63]]
        assert read[64:128].tolist() == [7] * 64
        assert read[2046:2053].tolist() == [0, 0, 7, 7, 7, 7, 0]
        np.testing.assert_array_equal(readback.view().reshape(4, 256), texels)


def test_what_wgpu_refuses_is_not_submitted_and_the_lane_works_on(spoken: Any) -> None:
    """It ends the process when it is given a command buffer that it found invalid."""
    rig, memory = spoken, spoken.buffer(64)
    with pytest.raises(ForgeError, match="wgpu failed while submitting"):
        rig.submit(Copy(memory, 0, rig.buffer(64), 0, 4096))
    rig.run(Fill(memory, 0, 64, 5))
    assert (rig.read(memory) == 5).all()


def test_wgpu_py_itself_is_used_where_its_library_is_another() -> None:
    class Other:
        wgpuDeviceCreateCommandEncoder = None

    assert isinstance(choose("0.32.0", lib), DirectCalls)
    assert isinstance(choose("0.33.0", lib), PublicCalls)
    assert isinstance(choose("0.32.1", Other()), PublicCalls)
    assert native.CALLS.__class__ is DirectCalls


def test_a_scope_that_an_interrupt_left_open_hears_nothing_of_later_calls(rig: Any) -> None:
    stack = _api.error_handler._get_proxy_stack()
    outer = NativeErrors("failing")
    with outer:
        NativeErrors("left open").__enter__()
    assert not stack
    with pytest.raises(ForgeError, match="failing"), outer:
        outer.message, outer.type = "no", "Validation"
