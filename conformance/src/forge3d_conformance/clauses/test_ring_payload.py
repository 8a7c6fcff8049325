"""That the bytes which arrive are the bytes which were given, and no other byte changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import BLOCK, Bytes, landed, pattern
from forge3d_core.errors import OutOfRange, UsageError
from forge3d_core.protocols import Buffer, Device, StagingRing, Texture

ROOM = 6 * BLOCK
SIZES = st.one_of(
    st.integers(1, 70),
    st.sampled_from((255, 256, 257, 1023, BLOCK - 1, BLOCK)),
    st.integers(1, BLOCK),
)
LARGE = st.one_of(
    st.sampled_from((BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK - 1, 4 * BLOCK + 5)),
    st.integers(BLOCK, 5 * BLOCK),
)
OFFSETS = st.one_of(st.integers(0, 9), st.integers(0, ROOM - 5 * BLOCK))


def _poked(bench: Bench, device: Device) -> tuple[Buffer, Bytes]:
    """Return a target of random bytes, and those bytes."""
    target, wanted = device.create_buffer(ROOM), bench.payload(ROOM)
    bench.poke(device, target, wanted)
    return target, wanted.copy()


@pytest.mark.clause("ring.payload")
@given(pieces=st.lists(st.tuples(SIZES, OFFSETS), min_size=1, max_size=8), pace=st.integers(1, 4))
def test_every_byte_arrives_by_slice(bench: Bench, pieces: list[tuple[int, int]], pace: int) -> None:
    with bench.open() as device:
        target, wanted = _poked(bench, device)
        ring = device.staging_ring(ring_count=3, buffer_size=BLOCK)
        for key, (nbytes, offset) in enumerate(pieces):
            slot = ring.reserve(nbytes, bench.patience)
            slot.view[:] = wanted[offset : offset + nbytes] = pattern(key, nbytes)
            slot.commit(target, offset)
            if key % pace == 0:
                ring.advance(bench.patience)
        bench.wait(ring.advance())
        bench.same(bench.peek(device, target), wanted, f"slices of (size, offset) {pieces}")


@pytest.mark.clause("ring.payload")
@given(nbytes=st.one_of(SIZES, LARGE), offset=OFFSETS, blocks=st.integers(1, 3))
def test_every_byte_arrives_by_upload(bench: Bench, nbytes: int, offset: int, blocks: int) -> None:
    with bench.open() as device:
        target, wanted = _poked(bench, device)
        ring = device.staging_ring(ring_count=blocks, buffer_size=BLOCK)
        data = pattern(offset, nbytes)
        wanted[offset : offset + nbytes] = data
        bench.wait(ring.upload(data, target, offset, timeout=bench.patience))
        bench.same(bench.peek(device, target), wanted, f"upload of {nbytes} bytes at {offset}")


def _arrays() -> dict[str, Any]:
    words = np.arange(600, dtype=np.uint32).reshape(20, 30) * 2654435
    return {
        "float32": np.linspace(-1, 1, 700, dtype=np.float32),
        "float64 in 3 dimensions": np.arange(120, dtype=np.float64).reshape(4, 5, 6),
        "big endian": np.arange(99, dtype=">i4"),
        "every other column": words[:, ::2],
        "transposed": words.T,
        "Fortran order": np.asfortranarray(words),
        "reversed": np.arange(77, dtype=np.uint16)[::-1],
        "broadcast": np.broadcast_to(np.uint8(5), (50, 3)),
        "a scalar": np.float32(2.5),
        "booleans": np.arange(13) % 3 == 0,
        "a list": [1.5, 2.5, -3.0],
        "records": np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "u1"), ("b", "<f4")]),
        "read-only": np.frombuffer(bytes(range(200)), np.uint8),
    }


@pytest.mark.clause("ring.payload")
def test_any_array_arrives_as_its_bytes_in_c_order(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=2, buffer_size=500)
    for name, array in _arrays().items():
        target, wanted = _poked(bench, device)
        data = np.frombuffer(np.asarray(array).tobytes(), np.uint8)
        wanted[3 : 3 + data.nbytes] = data
        bench.wait(ring.upload(array, target, 3, timeout=bench.patience))
        bench.same(bench.peek(device, target), wanted, f"upload of an array, {name}")
    target, wanted = _poked(bench, device)
    bench.wait(ring.upload(np.empty(0), target, 7), "an upload of nothing")
    bench.same(bench.peek(device, target), wanted, "upload of an empty array")


@pytest.mark.clause("ring.payload")
@pytest.mark.parametrize(("dtype", "shape"), [("f4", None), ("<u2", (7, 9)), ("i8", 5), ("u1", (3, 4, 5))])
def test_a_slice_as_an_array_is_the_same_memory(bench: Bench, dtype: str, shape: Any) -> None:
    device = bench.open()
    target, wanted = _poked(bench, device)
    ring = device.staging_ring(buffer_size=BLOCK)
    ring.reserve(5, bench.patience).commit(target, 0)  # so that the next does not start at 0
    slot = ring.reserve(1001, bench.patience)
    slot.view[:] = wanted[11 : 11 + 1001] = pattern(1, 1001)
    wanted[:5] = 0
    item = np.dtype(dtype)
    sent = slot.array(dtype, shape)
    expected = (1001 // item.itemsize,) if shape is None else shape if isinstance(shape, tuple) else (shape,)
    bench.check(
        (sent.dtype, sent.shape) == (item, expected),
        f"array({dtype!r}, {shape}) has {sent.dtype} of shape {sent.shape}",
    )
    values = (np.arange(sent.size) % 120).astype(item).reshape(sent.shape)
    sent[...] = values
    wanted[11 : 11 + values.nbytes] = np.frombuffer(values.tobytes(), np.uint8)
    slot.commit(target, 11)
    bench.wait(ring.advance())
    bench.same(bench.peek(device, target)[5:], wanted[5:], f"a slice written as {dtype} of shape {shape}")


@pytest.mark.clause("ring.payload")
def test_a_region_outside_changes_nothing(bench: Bench) -> None:
    device = bench.open()
    target, wanted = _poked(bench, device)
    ring = device.staging_ring(buffer_size=BLOCK)
    outside = (ROOM - 99, ROOM, ROOM + 1, -1, 1 << 40)
    for offset in outside:
        with bench.raises(OutOfRange, f"upload of 100 bytes at {offset} of {ROOM}"):
            ring.upload(pattern(1, 100), target, offset, timeout=bench.patience)
    slot = ring.reserve(100, bench.patience)
    slot.view[:] = pattern(0, 100)
    for offset in outside:
        with bench.raises(OutOfRange, f"commit of 100 bytes at {offset} of {ROOM}"):
            slot.commit(target, offset)
    slot.commit(target, ROOM - 100)  # after an error the slice is as before
    wanted[-100:] = pattern(0, 100)
    bench.wait(ring.advance())
    bench.same(bench.peek(device, target), wanted, "after commits and uploads that were refused, the target")


@pytest.mark.clause("ring.source-captured")
@pytest.mark.parametrize("nbytes", [1, 100, BLOCK, 2 * BLOCK, 3 * BLOCK])
def test_the_source_is_free_once_upload_returns(bench: Bench, nbytes: int) -> None:
    device = bench.open()
    ring = device.staging_ring(ring_count=3, buffer_size=BLOCK)
    target = device.create_buffer(nbytes)
    source = pattern(2, nbytes)
    with bench.hold(device, "upload") as hold:
        point = bench.result(bench.thread(lambda: ring.upload(source, target)), "upload with room for it all")
        hold.still()
        source[:] = 0xEE
        bench.check(not hold.observe(lambda: point.done), "an upload behind a held lane says done")
    bench.wait(point)
    bench.same(landed(bench, device, target), pattern(2, nbytes), "upload, its source overwritten meanwhile,")


@pytest.mark.clause("ring.source-captured")
def test_the_source_of_a_large_upload_is_free_too(bench: Bench) -> None:
    device = bench.open()
    nbytes = 7 * BLOCK + 123
    ring = device.staging_ring(ring_count=2, buffer_size=BLOCK)
    target = device.create_buffer(nbytes)
    source = pattern(3, nbytes)

    def upload() -> Any:
        point = ring.upload(source, target, timeout=bench.patience)
        source[:] = 0xEE  # at once, with the last blocks perhaps still in flight
        return point

    with bench.hold(device, "upload"):
        uploading = bench.thread(upload)
        bench.until(lambda: ring.stats().submissions or uploading.done(), "the first block of an upload")
    bench.wait(bench.result(uploading, "an upload larger than the ring"))
    bench.same(landed(bench, device, target), pattern(3, nbytes), "upload, its source overwritten meanwhile,")


FORMATS: dict[str, tuple[str, int]] = {"rgba8unorm": ("u1", 4), "r32float": ("f4", 1), "r8unorm": ("u1", 1)}


def _texels(key: int, height: int, width: int, dtype: str, channels: int) -> NDArray[Any]:
    values = pattern(key, height * width * channels).astype(dtype)
    return values.reshape((height, width, channels) if channels > 1 else (height, width))


def _texture(
    bench: Bench, device: Device, format: str, width: int, height: int
) -> tuple[Texture, NDArray[Any]]:
    dtype, channels = FORMATS[format]
    texture = device.create_texture(width, height, format)
    ring = device.staging_ring(ring_count=1, buffer_size=64 * 1024)
    background = _texels(9, height, width, dtype, channels)
    bench.wait(ring.upload(background, texture))
    return texture, background


def _read(bench: Bench, device: Device, texture: Texture) -> NDArray[Any]:
    with device.readback_pool(max_pending_ops=1, buffer_size=64 * 1024) as pool:
        seen: NDArray[Any] = pool.read(texture).wait(bench.patience)
        return seen


def _write_rows(
    ring: StagingRing,
    texture: Texture,
    texels: NDArray[Any],
    origin: tuple[int, int],
    pitch: int | None,
    alignment: int,
) -> None:
    height, width = texels.shape[:2]
    row = texels.nbytes // height
    step = -(-row // alignment) * alignment if pitch is None else pitch
    slot = ring.reserve((height - 1) * step + row, 5)
    memory = slot.view
    for y in range(height):
        memory[y * step : y * step + row] = np.frombuffer(texels[y].tobytes(), np.uint8)
    del memory
    slot.commit_rows(texture, origin=origin, size=(width, height), row_pitch=pitch)


@pytest.mark.clause("ring.rows")
@given(data=st.data())
def test_rows_arrive_where_they_belong(bench: Bench, data: st.DataObject) -> None:
    format = data.draw(st.sampled_from(bench.formats(*sorted(FORMATS))), "format")
    dtype, channels = FORMATS[format]
    side = bench.target.limits.max_texture_size
    width = data.draw(st.integers(1, min(70, side)), "width")
    height = data.draw(st.integers(1, min(20, side)), "height")
    w, h = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    origin = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    texels = _texels(1, h, w, dtype, channels)
    with bench.open() as device:
        texture, wanted = _texture(bench, device, format, width, height)
        alignment = device.limits.row_pitch_alignment
        ring = device.staging_ring(buffer_size=max(32 * 1024, 20 * (70 * 16 + 3 * alignment)))
        how = data.draw(st.sampled_from(("upload", "rows", "rows with a pitch")), "how")
        if how == "upload":
            bench.wait(ring.upload(texels, texture, origin=origin, timeout=bench.patience))
        else:
            row = texels.nbytes // h
            pitch = -(-row // alignment) * alignment + data.draw(st.integers(1, 2)) * alignment
            _write_rows(ring, texture, texels, origin, pitch if "pitch" in how else None, alignment)
            bench.wait(ring.advance())
        wanted[origin[1] : origin[1] + h, origin[0] : origin[0] + w] = texels
        bench.same(_read(bench, device, texture), wanted, f"{how}: {w}x{h} texels of {format} at {origin}")


@pytest.mark.clause("ring.rows")
def test_an_image_larger_than_a_block_arrives(bench: Bench) -> None:
    device = bench.open()
    height = min(83, device.limits.max_texture_size)
    texture, _ = _texture(bench, device, "rgba8unorm", 61, height)
    ring = device.staging_ring(ring_count=2, buffer_size=2000)
    image = _texels(4, height, 61, "u1", 4)
    bench.wait(ring.upload(image, texture, timeout=bench.patience))
    bench.same(_read(bench, device, texture), image, "upload of an image larger than the ring")


@pytest.mark.clause("ring.rows")
def test_rows_that_do_not_fit_are_refused(bench: Bench) -> None:
    device = bench.open()
    texture, wanted = _texture(bench, device, "rgba8unorm", 16, 8)
    alignment = device.limits.row_pitch_alignment
    ring = device.staging_ring(buffer_size=32 * 1024)
    pitch = max(256, alignment)
    slot = ring.reserve(7 * pitch + 64, bench.patience)
    for origin, size in (((1, 0), (16, 8)), ((0, 1), (16, 8)), ((-1, 0), (4, 4)), ((0, 0), (17, 1))):
        with bench.raises(OutOfRange, f"rows of {size} at {origin} of 16x8 texels"):
            slot.commit_rows(texture, origin=origin, size=size, row_pitch=pitch)
    with bench.raises(OutOfRange, "eight rows in a slice for seven and a little"):
        slot.commit_rows(texture, row_pitch=2 * pitch)
    with bench.raises(UsageError, "a row pitch below a row's bytes"):
        slot.commit_rows(texture, row_pitch=alignment if alignment < 64 else 0)
    with bench.raises(UsageError, "texels of another size"):
        bench.result(bench.thread(lambda: ring.upload(np.zeros((8, 16, 3), np.uint8), texture)))
    bench.same(_read(bench, device, texture), wanted, "after rows that were refused, the texture")
    slot.view[:] = 7
    slot.commit_rows(texture, row_pitch=pitch)
    bench.wait(ring.advance())
    wanted[...] = 7
    bench.same(_read(bench, device, texture), wanted, "rows of a slice that was refused before")


@pytest.mark.clause("ring.rows")
def test_rows_have_left_their_block_when_their_point_comes(bench: Bench) -> None:
    """The only block of a ring is written over as soon as the point of its rows is done."""
    device = bench.open()
    texture, wanted = _texture(bench, device, "rgba8unorm", 16, 8)
    pitch = max(256, device.limits.row_pitch_alignment)
    ring = device.staging_ring(ring_count=1, buffer_size=8 * pitch)
    for value in range(1, bench.scale(6, 50)):
        slot = ring.reserve(7 * pitch + 64, bench.patience)
        slot.view[:] = value
        slot.commit_rows(texture, row_pitch=pitch)
        bench.wait(ring.advance())
        over = ring.reserve(7 * pitch + 64, bench.patience)
        over.view[:] = 0xEE
        wanted[...] = value
        seen = _read(bench, device, texture)
        over.release()
        bench.same(seen, wanted, "a texture whose rows' block was written over once their point had come")
