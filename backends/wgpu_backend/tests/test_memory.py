"""Copies and fills at any byte, textures by rows: compared with numpy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forge3d_core.driver import Copy, Download, DownloadRows, Fill, Upload, UploadRows
from forge3d_core.errors import UsageError
from forge3d_core.formats import texture_format
from forge3d_core.protocols import TextureFormat
from forge3d_core.units import align_up
from forge3d_wgpu.transfers import FILL_BYTES, SCRATCH_BYTES, _chunks

SIZE = 1021  # not a whole number of words
model = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
spans = st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), st.integers(1, SIZE)).map(
    lambda span: (span[0], span[1], min(span[2], SIZE - span[0], SIZE - span[1]))
)


def noise(nbytes: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(1, 256, nbytes, dtype=np.uint8)


@model
@given(span=spans)
def test_upload_at_any_byte_keeps_the_neighbours(rig: Any, span: tuple[int, int, int]) -> None:
    source, offset, nbytes = span
    data, before = noise(SIZE), noise(SIZE, 1)
    target, block = rig.buffer(SIZE), rig.block(data)
    rig.write(target, before)
    rig.run(Upload(block, source, target, offset, nbytes))
    before[offset : offset + nbytes] = data[source : source + nbytes]
    np.testing.assert_array_equal(rig.read(target), before)


@model
@given(span=spans)
def test_copy_between_buffers(rig: Any, span: tuple[int, int, int]) -> None:
    start, offset, nbytes = span
    data, before = noise(SIZE), noise(SIZE, 1)
    source, target = rig.buffer(SIZE), rig.buffer(SIZE)
    rig.write(source, data)
    rig.write(target, before)
    rig.run(Copy(source, start, target, offset, nbytes))
    before[offset : offset + nbytes] = data[start : start + nbytes]
    np.testing.assert_array_equal(rig.read(target), before)
    np.testing.assert_array_equal(rig.read(source), data)


@pytest.mark.parametrize(
    ("start", "offset", "nbytes"), [(0, 512, 512), (1, 515, 200), (600, 3, 400), (0, 4, 1)]
)
def test_copy_within_one_buffer(rig: Any, start: int, offset: int, nbytes: int) -> None:
    data, memory = noise(SIZE + 3), rig.buffer(SIZE + 3)
    rig.write(memory, data)
    rig.run(Copy(memory, start, memory, offset, nbytes))
    data[offset : offset + nbytes] = data[start : start + nbytes].copy()
    np.testing.assert_array_equal(rig.read(memory), data)


@model
@given(span=spans, value=st.integers(0, 255))
def test_fill_keeps_the_neighbours(rig: Any, span: tuple[int, int, int], value: int) -> None:
    _, offset, nbytes = span
    data, memory = noise(SIZE), rig.buffer(SIZE)
    rig.write(memory, data)
    rig.run(Fill(memory, offset, nbytes, value))
    data[offset : offset + nbytes] = value
    np.testing.assert_array_equal(rig.read(memory), data)


def test_a_shifted_copy_larger_than_the_scratch(rig: Any) -> None:
    nbytes = 2 * SCRATCH_BYTES + 77
    data = noise(nbytes)
    source, target = rig.buffer(nbytes), rig.buffer(nbytes + 8)
    rig.write(source, data)
    rig.run(Copy(source, 0, target, 3, nbytes))
    result = rig.read(target)
    np.testing.assert_array_equal(result[3 : 3 + nbytes], data)
    assert not result[:3].any()
    assert not result[3 + nbytes :].any()


@pytest.mark.parametrize("offset", [0, 1, 255, 256, FILL_BYTES - 1, FILL_BYTES])
@pytest.mark.parametrize("nbytes", [1, FILL_BYTES, 2 * FILL_BYTES + 1])
def test_chunks_cover_the_run_and_share_no_word(offset: int, nbytes: int) -> None:
    chunks = list(_chunks(offset, nbytes, FILL_BYTES))
    assert chunks[0][0] == offset
    assert sum(size for _, size in chunks) == nbytes
    for (start, size), (following, _) in itertools.pairwise(chunks):
        assert start + size == following
        assert following % 256 == 0


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 7])
def test_a_ragged_download(rig: Any, offset: int) -> None:
    data, source = noise(SIZE), rig.buffer(SIZE)
    rig.write(source, data)
    block = rig.driver.allocate_block(SIZE + 8, "readback")
    rig.run(Download(source, offset, block, offset % 4, SIZE - offset))
    np.testing.assert_array_equal(block.view()[offset % 4 : offset % 4 + SIZE - offset], data[offset:])


def test_fresh_memory_is_zero_even_where_old_bytes_were(rig: Any) -> None:
    for _ in range(4):
        memory = rig.buffer(1 << 16)
        assert not rig.read(memory).any()
        rig.run(Fill(memory, 0, 1 << 16, 255))
        rig.driver.free(memory.native)


def test_commands_of_one_submission_run_in_order(rig: Any) -> None:
    first, second = rig.buffer(64), rig.buffer(64)
    rig.run(
        Fill(first, 0, 64, 1),
        Copy(first, 0, second, 1, 8),
        Fill(first, 0, 64, 2),
        Copy(first, 0, second, 9, 3),
    )
    np.testing.assert_array_equal(rig.read(second)[:13], [0] + [1] * 8 + [2] * 3 + [0])


@pytest.mark.parametrize("name", ["r8unorm", "rg8uint", "rgba8unorm", "r16float", "rgba32float"])
def test_rows_of_a_texture(rig: Any, name: str) -> None:
    format = texture_format(name)
    width, height, texel = 67, 13, format.block_bytes
    image = rig.image(width, height, format)
    size, origin = (31, 7), (5, 3)
    data = noise(size[0] * size[1] * texel).reshape(size[1], -1)
    pitch = align_up(size[0] * texel, 256)
    padded = np.zeros((size[1], pitch), np.uint8)
    padded[:, : data.shape[1]] = data
    whole_pitch = align_up(width * texel, 256)
    readback = rig.driver.allocate_block(whole_pitch * height, "readback")
    rig.run(
        UploadRows(rig.block(padded), 0, pitch, image, origin, size),
        DownloadRows(image, (0, 0), (width, height), readback, 0, whole_pitch),
    )
    expected = np.zeros((height, width * texel), np.uint8)
    expected[origin[1] : origin[1] + size[1], origin[0] * texel : (origin[0] + size[0]) * texel] = data
    np.testing.assert_array_equal(readback.view().reshape(height, -1)[:, : width * texel], expected)


def test_a_format_that_cannot_be_had(rig: Any) -> None:
    with pytest.raises(UsageError, match="not a texture format"):
        rig.driver.allocate_texture(8, 8, TextureFormat("rgb8unorm", 3))


def test_a_texture_too_large_is_a_usage_error(rig: Any) -> None:
    with pytest.raises(UsageError, match="allocating a texture"):
        rig.driver.allocate_texture(rig.driver.info.limits.max_texture_size + 1, 1, texture_format("r8unorm"))


def test_footprint_counts_whole_words(rig: Any) -> None:
    for nbytes in (1, 4, 5, 1000):
        expected = align_up(nbytes, 4)
        assert rig.driver.footprint(nbytes, "device_local") == expected
        assert rig.driver.footprint(nbytes, "host_visible") == expected
        assert rig.buffer(nbytes).native.size == expected


def test_adopt_takes_a_buffer_of_this_device(rig: Any) -> None:
    import wgpu

    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
    own = rig.driver.native.create_buffer(size=64, usage=usage)
    assert rig.driver.adopt(own) == (own, 64)
    rig.driver.free(own)  # not ours to free
    own.size  # noqa: B018
    assert own._internal is not None


def test_adopt_refuses_what_it_cannot_use(rig: Any) -> None:
    import wgpu

    device, usage = rig.driver.native, wgpu.BufferUsage
    full = usage.STORAGE | usage.COPY_SRC | usage.COPY_DST
    for native, says in (
        (np.zeros(4), "GPUBuffer"),
        (device.create_buffer(size=64, usage=usage.COPY_DST), "STORAGE"),
        (device.create_buffer(size=6, usage=full), "6 bytes"),
        (device.create_buffer(size=8, usage=full, mapped_at_creation=True), "unmap"),
    ):
        with pytest.raises(UsageError, match=says):
            rig.driver.adopt(native)
