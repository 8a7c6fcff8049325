"""What commands do to memory, on every temper of the machine."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_core.driver import Copy, Dispatch, Download, DownloadRows, Fill, Upload, UploadRows
from forge3d_core.errors import KernelError, UsageError
from forge3d_core.formats import texture_format
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import HostOptions
from forge3d_core.protocols import Binding, KernelSource, Param, TextureFormat


def test_bytes_go_up_and_come_home(rig: Any) -> None:
    data = np.arange(1001, dtype=np.uint8)
    _, upload, target = rig.upload(data)
    rig.run(upload, lane="upload")
    assert np.array_equal(rig.peek(target), data)


def test_fresh_memory_is_zero(rig: Any) -> None:
    assert not rig.peek(rig.buffer(77)).any()
    assert not rig.driver.allocate_block(33, "readback").view().any()
    assert not rig.driver.allocate_block(33, "upload").view().any()


def test_only_upload_blocks_are_writable(rig: Any) -> None:
    assert rig.driver.allocate_block(8, "upload").view().flags.writeable
    assert not rig.driver.allocate_block(8, "readback").view().flags.writeable


def test_fill_and_copy_touch_their_region_only(rig: Any) -> None:
    source, target = rig.buffer(20), rig.buffer(20)
    rig.run(Fill(source, 3, 5, 9), Fill(target, 0, 20, 1), Copy(source, 2, target, 11, 4))
    assert rig.peek(source).tolist() == [0] * 3 + [9] * 5 + [0] * 12
    assert rig.peek(target).tolist() == [1] * 11 + [0, 9, 9, 9] + [1] * 5


def test_copy_inside_one_buffer(rig: Any) -> None:
    _, upload, memory = rig.upload(np.arange(10, dtype=np.uint8))
    rig.run(upload, Copy(memory, 0, memory, 5, 5))
    assert rig.peek(memory).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


@given(offset=st.integers(0, 30), nbytes=st.integers(1, 33), align=st.sampled_from([1, 4, 16]))
def test_an_aligned_download_has_the_bytes_in_the_middle(offset: int, nbytes: int, align: int) -> None:
    driver = HostDriver(HostMachine(HostOptions(align=align)))
    size = offset + nbytes
    adopted, _ = driver.adopt(np.arange(1, size + 1, dtype=np.uint8))
    start = align + offset % align
    block = driver.allocate_block(start + nbytes + align, "readback")
    memory = type("Memory", (), {"native": adopted, "nbytes": size})()
    assert driver.wait(driver.submit("download", [Download(memory, offset, block, start, nbytes)], ()), 20)
    seen = block.view()
    assert seen[start : start + nbytes].tolist() == list(range(offset + 1, size + 1))
    assert seen[start - offset % align : start].tolist() == list(
        range(offset - offset % align + 1, offset + 1)
    )
    driver.close(1)


@pytest.mark.parametrize("name", ["r8unorm", "rgba8unorm", "rgba32float"])
def test_texture_rows_with_pitch(rig: Any, name: str) -> None:
    format, pitch = texture_format(name), 256
    image = rig.image(7, 5, format)
    texel = format.block_bytes
    size, origin = (4, 3), (2, 1)
    rows = np.random.default_rng(1).integers(1, 255, (3, 4 * texel), np.uint8)
    up = rig.driver.allocate_block(64 + 3 * pitch, "upload")
    padded = up.view()[64:].reshape(3, pitch)
    padded[:] = 255
    padded[:, : 4 * texel] = rows
    home = rig.driver.allocate_block(128 + 5 * pitch, "readback")
    rig.run(
        UploadRows(up, 64, pitch, image, origin, size),
        DownloadRows(image, (0, 0), (7, 5), home, 128, pitch),
    )
    expected = np.zeros((5, 7 * texel), np.uint8)
    expected[1:4, 2 * texel : 6 * texel] = rows
    seen = home.view()[128:].reshape(5, pitch)
    assert np.array_equal(seen[:, : 7 * texel], expected)
    assert not seen[:, 7 * texel :].any()


def test_the_last_row_needs_no_padding(rig: Any) -> None:
    format = texture_format("r8unorm")
    image, block = rig.image(3, 2, format), rig.driver.allocate_block(256 + 3, "upload")
    block.view()[:3], block.view()[256:] = [1, 2, 3], [4, 5, 6]
    rig.run(UploadRows(block, 0, 256, image, (0, 0), (3, 2)))
    assert image.native.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_compressed_blocks_count_as_blocks(rig: Any) -> None:
    bc1 = TextureFormat("bc1-rgba-unorm", 8, (4, 4))
    image, block = rig.image(10, 5, bc1), rig.driver.allocate_block(64, "upload")
    block.view()[:8] = 7
    rig.run(UploadRows(block, 0, 256, image, (4, 4), (4, 1)))
    assert image.native[1, 8:16].tolist() == [7] * 8
    assert image.native.sum() == 56


@pytest.mark.parametrize("threads", [(6, 1, 1), (3, 2, 1), (3, 1, 2)])
def test_a_kernel_sees_threads_arrays_and_scalars(rig: Any, threads: tuple[int, int, int]) -> None:
    def scale(size: tuple[int, int, int], source: Any, target: Any, factor: float, shift: int) -> None:
        x, y, z = size
        target.reshape(z, y, x)[:] = source.reshape(z, y, x) * factor + shift

    kernel = rig.kernel(
        scale,
        (Binding("source", "read", "i2"), Binding("target", "write", "f4")),
        (Param("factor", "f4"), Param("shift", "i4")),
    )
    _, upload, source = rig.upload(np.arange(-3, 3, dtype=np.int16))
    target = rig.buffer(24)
    rig.run(upload, Dispatch(kernel, (source, target), (0.5, -1), threads))
    assert rig.peek(target).view(np.float32).tolist() == [-2.5, -2.0, -1.5, -1.0, -0.5, 0.0]


def test_a_kernel_sees_whole_elements_and_its_own_access(rig: Any) -> None:
    seen: list[tuple[int, str, bool]] = []

    def look(_threads: object, *arrays: Any) -> None:
        seen.extend((a.size, a.dtype.str, a.flags.writeable) for a in arrays)

    bindings = (Binding("a", "read", "f4"), Binding("b", "write", "<u2"), Binding("c", "readwrite"))
    buffers = (rig.buffer(11), rig.buffer(11), rig.buffer(11))
    rig.run(Dispatch(rig.kernel(look, bindings), buffers, (), (1, 1, 1)))
    native = "<f4" if sys.byteorder == "little" else ">f4"
    assert seen == [(2, native, False), (5, "<u2", True), (11, "|u1", True)]


def test_a_float_parameter_has_the_devices_precision(rig: Any) -> None:
    seen: list[float] = []
    kernel = rig.kernel(lambda _threads, value: seen.append(value), (), (Param("value", "f4"),))
    rig.run(Dispatch(kernel, (), (0.1,), (1, 1, 1)))
    assert seen == [float(np.float32(0.1))]


def test_a_failing_kernel_says_where(rig: Any) -> None:
    def explode() -> None:
        raise ZeroDivisionError("by nought")

    line = explode.__code__.co_firstlineno + 1
    token = rig.call("compute", explode)
    with pytest.raises(
        KernelError,
        match=rf"'probe'.*ZeroDivisionError: by nought at .*{__name__.split('.')[-1]}\.py:{line} in explode;",
    ):
        rig.finish(token)


def test_a_typo_in_a_kernel_is_shown_where_it_is(rig: Any) -> None:
    def slip(_threads: object, array: Any) -> None:
        np.mutliply(array, 2, out=array)

    kernel = rig.kernel(slip, (Binding("a", "readwrite"),))
    token = rig.driver.submit("compute", [Dispatch(kernel, (rig.buffer(4),), (), (1, 1, 1))], ())
    line = slip.__code__.co_firstlineno + 1
    for _ in range(2):  # every waiter is told the same
        with pytest.raises(
            KernelError, match=rf"AttributeError.*test_execution\.py:{line} in slip;"
        ) as caught:
            rig.finish(token)
        assert isinstance(caught.value.__cause__, AttributeError)
        shown = "".join(traceback.format_exception(caught.value))
        assert "np.mutliply(array, 2, out=array)" in shown
        assert "open the device again" in shown
        assert "_dispatch" not in shown  # the traceback is the kernel's, not that of how it was called


def test_a_kernel_that_exits_is_a_failed_kernel(rig: Any) -> None:
    with pytest.raises(KernelError, match="SystemExit: 3"):
        rig.finish(rig.call("compute", lambda: sys.exit(3)))


def test_a_kernel_with_wrong_parameters_says_so(rig: Any) -> None:
    with pytest.raises(KernelError, match=r"kernel 'probe' cannot be called as f\(threads\): too many"):
        rig.kernel(lambda: None)
    token = rig.driver.submit("compute", [Dispatch(rig.kernel(range), (), (), (1, 1, 1))], ())
    with pytest.raises(KernelError, match=r"TypeError.*when it was called"):  # C code tells no signature
        rig.finish(token)


def test_writing_to_a_read_binding_fails(rig: Any) -> None:
    def write(_threads: object, array: Any) -> None:
        array[0] = 1

    token = rig.driver.submit(
        "compute", [Dispatch(rig.kernel(write, (Binding("a", "read"),)), (rig.buffer(4),), (), (1, 1, 1))], ()
    )
    with pytest.raises(KernelError, match="read-only"):
        rig.finish(token)


@pytest.mark.parametrize(
    ("sources", "message"),
    [({"wgsl": "fn"}, "written in wgsl.*speaks host"), ({"host": "x = 1"}, "callable")],
)
def test_compile_refuses_what_it_cannot_run(rig: Any, sources: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelError, match=message):
        rig.driver.compile(KernelSource("k", sources))


def test_adopted_memory_is_shared(rig: Any) -> None:
    mine = np.arange(6, dtype=np.float32).reshape(2, 3)
    native, nbytes = rig.driver.adopt(mine)
    assert nbytes == 24
    rig.run(Fill(type("Memory", (), {"native": native, "nbytes": nbytes})(), 0, 12, 0))
    assert mine.tolist() == [[0, 0, 0], [3, 4, 5]]


@pytest.mark.parametrize(
    ("native", "message"),
    [
        (None, "not NoneType"),
        (bytearray(4), "not bytearray"),
        (np.zeros((4, 4))[:, 1], "C-contiguous"),
        (np.broadcast_to(np.zeros(1), (4,)), "C-contiguous"),
        (np.array([object()]), "plain data"),
        (np.zeros((0, 3)), "no bytes"),
    ],
)
def test_adopt_refuses_what_it_cannot_share(rig: Any, native: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rig.driver.adopt(native)


def test_upload_at_offsets(rig: Any) -> None:
    block, _, target = rig.upload(np.arange(16, dtype=np.uint8))
    rig.run(Upload(block, 5, target, 9, 3), lane="upload")
    assert rig.peek(target).tolist() == [0] * 9 + [5, 6, 7] + [0] * 4
