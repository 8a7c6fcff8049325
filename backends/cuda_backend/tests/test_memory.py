"""Device memory on a device: zeroing, copies of any size, textures, adoption, refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from forge3d_core.driver import Copy, DownloadRows, Fill, UploadRows
from forge3d_core.errors import OutOfDeviceMemory, UsageError
from forge3d_core.protocols import TextureFormat
from forge3d_cuda.memory import DevicePool

if TYPE_CHECKING:
    from conftest import Bench, CallGuard

RGBA8 = TextureFormat("rgba8unorm", 4)
BC1 = TextureFormat("bc1-rgba-unorm", 8, (4, 4))


def pattern(nbytes: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(nbytes)


@pytest.mark.parametrize("nbytes", [1, 3, 511, 4096, 1_000_003])
@pytest.mark.parametrize("offset", [0, 1, 13])
def test_every_byte_arrives_and_no_other_changes(bench: Bench, nbytes: int, offset: int) -> None:
    buffer, data = bench.buffer(nbytes + 20), pattern(nbytes)
    bench.write(buffer, data, offset)
    assert bench.read(buffer) == bytes(offset) + data + bytes(20 - offset)


@pytest.mark.parametrize("pooled", [True, False])
def test_reused_memory_is_zero(cupy: Any, pooled: bool) -> None:
    pool = DevicePool.on(cupy, 0, pooled=pooled)
    addresses = set()
    for _ in range(8):
        array = pool.allocate((100_000,))
        # On CuPy's own stream, which every allocation is ordered before.
        assert not cupy.asnumpy(array).any()
        cupy.cuda.runtime.memset(array.data.ptr, 0xAB, array.size)
        cupy.cuda.runtime.streamSynchronize(0)
        addresses.add(array.data.ptr)
        del array
    pool.close()
    assert len(addresses) < 8  # or nothing was reused and nothing was shown


def test_fresh_memory_is_zero_on_every_lane(bench: Bench) -> None:
    for lane in ("upload", "compute", "download"):
        dirty = bench.buffer(70_000)
        bench.run(Fill(dirty, 0, 70_000, 0xFF))
        del dirty
        fresh, seen = bench.buffer(70_000), bench.buffer(70_000)
        bench.run(Copy(fresh, 0, seen, 0, 70_000), lane=lane)
        assert bench.read(seen) == bytes(70_000)


def test_fill_and_copy_at_odd_places(bench: Bench) -> None:
    data = pattern(1000)
    source, target = bench.buffer(1000), bench.buffer(1000)
    bench.write(source, data)
    bench.run(Fill(target, 1, 997, 7), Copy(source, 333, target, 101, 55))
    expected = bytearray(b"\0" + b"\7" * 997 + b"\0\0")
    expected[101:156] = data[333:388]
    assert bench.read(target) == bytes(expected)


@pytest.mark.parametrize(
    ("format", "texture", "origin", "size", "pitch"),
    [
        (RGBA8, (64, 9), (0, 0), (64, 9), 256),  # one run of bytes
        (RGBA8, (5, 7), (0, 0), (5, 7), 20),
        (RGBA8, (5, 7), (1, 2), (3, 4), 17),
        (RGBA8, (5, 7), (0, 3), (5, 2), 256),
        (BC1, (10, 10), (4, 4), (6, 6), 40),
    ],
)
def test_texture_rows(
    bench: Bench,
    format: TextureFormat,
    texture: tuple[int, int],
    origin: tuple[int, int],
    size: tuple[int, int],
    pitch: int,
) -> None:
    image = bench.image(*texture, format)
    across, down = format.block
    row, rows = -(-size[0] // across) * format.block_bytes, -(-size[1] // down)
    data = np.frombuffer(pattern(pitch * rows), np.uint8).reshape(rows, pitch)
    up, back = (bench.driver.allocate_block(data.size + 64, way) for way in ("upload", "readback"))
    up.view()[64:] = data.ravel()
    bench.run(UploadRows(up, 64, pitch, image, origin, size), lane="upload")
    whole = bench.driver.allocate_block(image.nbytes, "readback")
    stride = image.nbytes // image.native.shape[0]
    bench.run(
        DownloadRows(image, origin, size, back, 0, pitch),
        DownloadRows(image, (0, 0), texture, whole, 0, stride),
        lane="download",
    )
    expected = np.zeros(image.native.shape, np.uint8)
    top, left = origin[1] // down, origin[0] // across * format.block_bytes
    expected[top : top + rows, left : left + row] = data[:, :row]
    np.testing.assert_array_equal(whole.view().reshape(expected.shape), expected)
    got = back.view()[: pitch * rows].reshape(rows, pitch)
    np.testing.assert_array_equal(got[:, :row], data[:, :row])
    assert not got[:, row:].any()  # the padding is not part of the texture


def test_native_is_shared_with_cupy(cupy: Any, bench: Bench) -> None:
    buffer = bench.buffer(16)
    buffer.native.view(cupy.float32).set(np.full(4, 1.5, np.float32))
    cupy.cuda.runtime.streamSynchronize(0)
    assert bench.read(buffer) == np.full(4, 1.5, np.float32).tobytes()
    assert buffer.native.__cuda_array_interface__["shape"] == (16,)


def test_an_array_outlives_its_buffer_and_its_device(cupy: Any, open_bench: Callable[[], Bench]) -> None:
    bench = open_bench()
    buffer = bench.buffer(4096)
    bench.write(buffer, b"\x05" * 4096)
    kept = buffer.native[1:]
    bench.driver.free(buffer.native)
    del buffer
    assert bench.buffer(4096).native.data.ptr != kept.data.ptr - 1
    bench.close()
    assert (cupy.asnumpy(kept) == 5).all()


@pytest.mark.parametrize("dtype", ["u1", "f4", "c16", "?"])
def test_adopted_arrays_share_their_memory(cupy: Any, bench: Bench, dtype: str) -> None:
    array = cupy.zeros((3, 5), dtype)
    native, nbytes = bench.driver.adopt(array)
    assert nbytes == array.nbytes
    bench.run(Fill(bench.region(native, nbytes), 0, 1, 1))
    assert cupy.asnumpy(array).tobytes() == b"\1" + bytes(nbytes - 1)


def test_adoption_is_ordered_behind_the_stream_that_fills_the_array(cupy: Any, bench: Bench) -> None:
    array = cupy.zeros(50_000_000, np.uint8)
    for value in range(1, 30):
        cupy.cuda.runtime.memsetAsync(array.data.ptr, value, array.size, 0)
    native, nbytes = bench.driver.adopt(array)
    assert set(bench.read(bench.region(native, nbytes))) == {29}


def test_what_cannot_be_adopted(cupy: Any, bench: Bench) -> None:
    for native in (
        np.zeros(4),
        b"bytes",
        None,
        cupy.zeros((4, 4))[:, ::2],
        cupy.zeros((4, 3)).T,
        cupy.zeros(0),
    ):
        with pytest.raises(UsageError, match="cannot adopt"):
            bench.driver.adopt(native)


def test_pinned_host_memory_is_not_adopted(cupy: Any, bench: Bench) -> None:
    block = bench.driver.allocate_block(4096, "upload")
    memory = cupy.cuda.UnownedMemory(block.address, 4096, block, 0)
    with pytest.raises(UsageError, match="not in device memory"):
        bench.driver.adopt(cupy.ndarray((4096,), np.uint8, cupy.cuda.MemoryPointer(memory, 0)))


def test_more_than_the_device_has_is_refused_and_leaves_no_trace(bench: Bench) -> None:
    assert bench.driver.info.memory_bytes is not None
    with pytest.raises(OutOfDeviceMemory, match="are free"):
        bench.buffer(bench.driver.info.memory_bytes * 2)
    small = bench.buffer(100)
    bench.write(small, b"x" * 100)
    assert bench.read(small) == b"x" * 100


def test_memory_is_taken_and_zeroed_while_a_lane_is_held(bench: Bench, gate: CallGuard) -> None:
    held = gate.hold("compute")
    buffer = bench.buffer(3_000_000)
    bench.write(buffer, b"abc")
    assert bench.read(buffer) == b"abc" + bytes(2_999_997)
    assert not bench.driver.query(held)
