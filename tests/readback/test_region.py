"""What a read covers: a run of a buffer or a rectangle of a texture, and the array it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, ForeignObject, OutOfRange, UsageError
from forge3d_core.memory.resources import DeviceBuffer
from forge3d_core.readback.pool import Pool
from forge3d_core.readback.state import block_size

from .source import SIZE, poke

ALIGNED = "?pitch=256&align=4"


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize("offset", [0, 1, 3, 4, 9000])
@pytest.mark.parametrize("nbytes", [0, 1, 2, 5, 1000])
def test_exactly_the_bytes_of_a_region(
    open_device: Callable[..., AssembledDevice], data: Any, selector: str, offset: int, nbytes: int
) -> None:
    device = open_device(selector)
    buffer = device.create_buffer(SIZE)
    poke(buffer, data)
    with device.readback_pool(buffer_size=64) as pool:
        read = pool.read(buffer, offset=offset, nbytes=nbytes)
        assert read.wait(20).tobytes() == data[offset : offset + nbytes].tobytes()
        with pool.read(buffer, offset=offset, nbytes=nbytes).lease(20) as lent:
            assert lent.tobytes() == data[offset : offset + nbytes].tobytes()
            del lent


@pytest.mark.parametrize(
    ("region", "dtype", "shape"),
    [
        ({}, "u1", (SIZE,)),
        ({"dtype": "f4"}, "f4", (SIZE // 4,)),
        ({"dtype": ">i2", "shape": (3, 5)}, ">i2", (3, 5)),
        ({"dtype": "f8", "shape": 7, "offset": 3}, "f8", (7,)),
        ({"dtype": "u4", "shape": ()}, "u4", ()),
        ({"dtype": "u4", "shape": (4, 0)}, "u4", (4, 0)),
        ({"offset": SIZE}, "u1", (0,)),
        ({"nbytes": 12, "dtype": [("a", "u1", (3,)), ("b", "f4")]}, None, None),
    ],
)
def test_dtypes_and_shapes(
    pool: Pool, buffer: DeviceBuffer, data: Any, region: Any, dtype: Any, shape: Any
) -> None:
    if dtype is None:
        with pytest.raises(UsageError, match="whole number"):
            pool.read(buffer, **region)
        return
    start = region.get("offset", 0)
    expected = data[start : start + int(np.prod(shape)) * np.dtype(dtype).itemsize]
    for got in (pool.read(buffer, **region).wait(20), pool.read(buffer, **region).lease(20).array):
        assert (got.dtype, got.shape) == (np.dtype(dtype), shape)
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("region", "error"),
    [
        ({"offset": -1}, OutOfRange),
        ({"offset": SIZE + 1}, OutOfRange),
        ({"offset": 1, "nbytes": SIZE}, OutOfRange),
        ({"nbytes": -1}, OutOfRange),
        ({"shape": (1 << 32, 1 << 32)}, OutOfRange),
        ({"nbytes": 3, "dtype": "f4"}, UsageError),
        ({"nbytes": 8, "dtype": "f4", "shape": 3}, UsageError),
        ({"nbytes": 1.5}, UsageError),
        ({"shape": -1}, UsageError),
        ({"shape": "ab"}, UsageError),
        ({"dtype": object}, UsageError),
        ({"dtype": "no such"}, UsageError),
        ({"size": (1, 1)}, UsageError),
        ({"nbytes": 8, "out": np.empty(7, np.uint8)}, UsageError),
        (
            {"nbytes": 8, "out": np.lib.stride_tricks.as_strided(np.empty(8, np.uint8), (2, 4), (2, 1))},
            UsageError,
        ),
        ({"nbytes": 8, "out": np.broadcast_to(np.uint8(1), 8)}, UsageError),
        ({"nbytes": 8, "out": bytearray(8)}, UsageError),
        ({"nbytes": 8, "out": np.empty(1, object)}, UsageError),
        ({"after": [3]}, UsageError),
    ],
)
def test_what_cannot_be_read_is_said_and_takes_nothing(
    pool: Pool, buffer: DeviceBuffer, region: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        pool.read(buffer, **region)
    stats = pool.stats()
    assert (stats.total_operations, stats.pending_operations) == (0, 0)
    assert pool.read(buffer).wait(20).nbytes == SIZE


@pytest.mark.parametrize("selector", ["", ALIGNED])
@pytest.mark.parametrize(("format", "dtype"), [("rgba8unorm", "u1"), ("r16uint", "u2"), ("rg32float", "f4")])
def test_rows_of_a_texture_come_without_their_padding(
    open_device: Callable[..., AssembledDevice], selector: str, format: str, dtype: str
) -> None:
    device = open_device(selector)
    texture = device.create_texture(37, 11, format)
    channels = texture.format.channels
    shape = (11, 37, channels) if channels > 1 else (11, 37)
    image = np.random.default_rng(5).integers(0, 200, shape).astype(dtype)
    poke(texture, image)
    with device.readback_pool() as pool:
        for region, expected in (
            ({}, image),
            ({"origin": (3, 4)}, image[4:, 3:]),
            ({"origin": (3, 4), "size": (5, 6)}, image[4:10, 3:8]),
            ({"size": (1, 1)}, image[:1, :1]),
            ({"size": (0, 4)}, image[:4, :0]),
            ({"origin": (37, 11)}, image[11:, 37:]),
        ):
            owned = pool.read(texture, **region).wait(20)
            lease = pool.read(texture, **region).lease(20)
            for got in (owned, lease.array):
                assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
                assert (got == expected).all()
            del got
            lease.release()
        for wrong in ({"offset": 4}, {"nbytes": 4}, {"shape": (2, 2)}, {"dtype": "S3"}, {"size": (38, 1)}):
            with pytest.raises(UsageError):
                pool.read(texture, **wrong)


def test_foreign_and_closed_sources(
    pool: Pool, buffer: DeviceBuffer, open_device: Callable[..., AssembledDevice]
) -> None:
    with pytest.raises(ForeignObject):
        pool.read(open_device().create_buffer(4))
    with pytest.raises(ForeignObject):
        pool.read(np.zeros(4))  # type: ignore[arg-type]
    buffer.close()
    with pytest.raises(Closed):
        pool.read(buffer)


@pytest.mark.parametrize("nbytes", [1, 4095, 4096, 4097, 100_000, 1 << 20, (1 << 20) + 1, 33_000_001])
def test_blocks_waste_little(nbytes: int) -> None:
    size = block_size(nbytes)
    assert size % 4096 == 0
    assert 0 <= size - nbytes <= max(4095, nbytes / 16)


def test_out_receives_the_bytes(pool: Pool, buffer: DeviceBuffer, data: Any) -> None:
    out = np.zeros((25, 20), np.float32)
    handle = pool.read(buffer, nbytes=2000, out=out)
    assert handle.wait(20) is out
    assert out.tobytes() == data[:2000].tobytes()
    texture_out = np.zeros((4, 4, 4), np.uint8)
    scalar = np.zeros((), np.uint16)
    assert pool.read(buffer, nbytes=2, out=scalar).wait(20) is scalar
    assert scalar.tobytes() == data[:2].tobytes()
    assert texture_out.sum() == 0
