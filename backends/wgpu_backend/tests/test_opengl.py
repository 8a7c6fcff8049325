"""Devices over OpenGL: opened by name only, one context for all of them, nothing waits, no wrong byte."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import DownloadRows, Fill, UploadRows
from forge3d_core.errors import BackendError, KernelError, UsageError
from forge3d_core.formats import FORMATS
from forge3d_core.protocols import Binding, KernelSource
from forge3d_wgpu.adapters import opengl_context
from forge3d_wgpu.opengl import WRONG_FORMATS, DeferredClose
from forge3d_wgpu.plugin import WgpuBackend


@pytest.fixture
def rig(make_rig: Any) -> Iterator[Any]:
    """A rig over OpenGL; a skip where this machine has none."""
    try:
        device = WgpuBackend().open("opengl")
    except BackendError as error:
        pytest.skip(f"no OpenGL here: {error}")
    device.close()
    rig = make_rig("opengl")
    yield rig
    rig.close()


def test_a_submission_is_in_flight_and_nothing_waits_for_it(rig: Any) -> None:
    memory, other, work = rig.buffer(64), rig.buffer(64), rig.long_work()
    with opengl_context():  # as while another submission runs
        first, second = rig.submit(work), rig.submit(Fill(memory, 0, 64, 7))
        assert not rig.driver.query(first)
        assert not rig.driver.wait(second, 0.0)
        assert rig.driver.free(other.native) is False
    rig.finish(first)
    rig.finish(second)
    assert rig.read(memory).tolist() == [7] * 64
    assert rig.driver.free(other.native) is None


@pytest.mark.parametrize("call", ["allocate_buffer", "allocate_block", "compile"])
def test_memory_and_kernels_wait_for_the_context(rig: Any, call: str) -> None:
    """wgpu-hal would wait for it, too, and end the process after 6 s."""
    source = KernelSource("nothing", {"wgsl": NOTHING}, (Binding("out", "readwrite", "u4"),))
    calls = {
        "allocate_buffer": lambda: rig.driver.allocate_buffer(64),
        "allocate_block": lambda: rig.driver.allocate_block(64, "readback"),
        "compile": lambda: rig.driver.compile(source),
    }
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(calls[call]()))
    with opengl_context():
        thread.start()
        thread.join(0.05)
        assert not made
    thread.join(60)
    assert made


NOTHING = """
@group(0) @binding(0) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(64)
fn nothing(@builtin(global_invocation_id) id: vec3<u32>) { out[id.x] = 1u; }
"""


def test_a_busy_device_does_not_close_yet(rig: Any) -> None:
    memory = rig.buffer(64)
    with opengl_context():
        token = rig.submit(Fill(memory, 0, 64, 1))
        assert rig.driver.close(0.0) is False
    rig.close()
    assert token.settled or token.recording is None


@pytest.mark.parametrize("name", [name for name, format in FORMATS.items() if format.block == (1, 1)])
def test_every_format_arrives_as_it_was_or_is_refused(rig: Any, name: str) -> None:
    format = FORMATS[name]
    if name in WRONG_FORMATS:
        with pytest.raises(UsageError, match=f"{name} back as they were; use {WRONG_FORMATS[name]}"):
            rig.image(19, 7, format)
        return
    try:
        image, pitch = rig.image(19, 7, format), 512
    except UsageError:
        assert re.match("depth|stencil|r.*16.norm", name)  # the rest every device has
        return
    texels = np.zeros((7, pitch), np.uint8)
    row = texels[:, : 19 * format.block_bytes]
    row[:] = np.random.default_rng(7).integers(0, 256, row.shape)
    if name.endswith("float"):  # a signalling NaN need not stay one
        row.view(f"<u{format.block_bytes // format.channels}")[:] &= 0x3F80 if "16" in name else 0x3F800000
    back = rig.driver.allocate_block(texels.nbytes, "readback")
    rig.run(
        UploadRows(rig.block(texels), 0, pitch, image, (0, 0), (19, 7)),
        DownloadRows(image, (0, 0), (19, 7), back, 0, pitch),
    )
    np.testing.assert_array_equal(back.view().reshape(texels.shape)[:, : row.shape[1]], row)


def test_the_last_array_over_a_block_goes_while_the_context_is_taken(rig: Any) -> None:
    """wgpu-hal would wait for the context, and end the process after 6 s."""
    block = rig.driver.allocate_block(64, "upload")
    array = block.view()[1:]
    rig.driver.free(block)
    with opengl_context():
        del array
        assert len(DeferredClose._doomed) == 1
    rig.driver.free(rig.driver.allocate_buffer(64))
    assert not DeferredClose._doomed


def test_what_webgpu_forbids_is_refused_at_once(rig: Any) -> None:
    work = rig.long_work()
    groups = rig.driver.info.limits.max_groups[0] + 1
    with pytest.raises(KernelError, match="spread the threads"):
        rig.submit(type(work)(work.kernel, work.buffers, work.params, (64 * groups, 1, 1)))


def test_nothing_is_adopted(rig: Any) -> None:
    with pytest.raises(UsageError, match="adopts no memory"):
        rig.driver.adopt(rig.buffer(64).native)
    with pytest.raises(UsageError, match="over OpenGL, which forge3d does not adopt"):
        WgpuBackend().adopt(rig.driver.native)


EXIT = """
import forge3d_core
from forge3d_core.protocols import Binding, KernelSource, Param
device = forge3d_core.open_device("wgpu:opengl", drain_timeout=0.1)
out = device.create_buffer(256)
source = KernelSource("spin", {{"wgsl": {code!r}}}, (Binding("out", "readwrite", "u4"),), (Param("rounds"),))
kernel = device.create_kernel(source)
points = []
for _ in range(40):
    commands = device.command_list().dispatch(kernel, [out], [60_000], threads=64 * 5000)
    points.append(device.submit(commands))
assert not points[-1].done
{then}
"""


@pytest.mark.parametrize("then", ["", "del device, kernel, out, points", "device.close()"])
def test_the_interpreter_exits_with_work_in_flight(rig: Any, spin: str, then: str) -> None:
    """Forty submissions take minutes."""
    script = EXIT.format(code=spin, then=then)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
