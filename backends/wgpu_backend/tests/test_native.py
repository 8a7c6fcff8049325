"""What a submission costs in native and in Python calls, as upper bounds; both dialects do the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from wgpu.backends.wgpu_native import lib

from forge3d_core.driver import Copy, Download, DownloadRows, Fill, Upload, UploadRows
from forge3d_core.errors import ForgeError
from forge3d_core.formats import texture_format
from forge3d_wgpu import native
from forge3d_wgpu.native import DirectCalls, PublicCalls, choose

NATIVE_BOUNDS = {
    "nothing": 1,
    "clear": 7,
    "fill": 12,
    "dispatch": 12,
    "256 dispatches": 267,
    "upload": 8,
    "download": 8,
}
"""Of a submission in the steady state, on an idle device; of which four are encoder and command buffer."""

PYTHON_BOUNDS = {
    "nothing": 23,
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


@pytest.mark.parametrize("kind", NATIVE_BOUNDS)
def test_a_submission_makes_no_more_native_calls(native_calls: Counter[str], counted: Any, kind: str) -> None:
    rig, commands = counted, counted.commands()
    for _ in range(3):
        rig.run(*commands.lists[kind])
    native_calls.clear()
    token = rig.submit(*commands.lists[kind])
    assert native_calls["wgpuQueueSubmit"] == (kind != "nothing")
    assert native_calls["wgpuQueueWriteBuffer"] == 0  # its parameters are there
    assert 1 <= native_calls.total() <= NATIVE_BOUNDS[kind], native_calls
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
def test_a_submission_enters_no_more_python_functions(rig: Any, python_calls: Any, kind: str) -> None:
    commands = rig.commands().lists[kind]
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
    rig, commands = spoken, spoken.commands()
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
