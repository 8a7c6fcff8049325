"""That data of the wrong kind, size or byte order is refused, both ways, and never reinterpreted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import painted, pattern
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Device, Texture

FORMATS: dict[str, tuple[str, int]] = {
    "rgba8unorm": ("u1", 4),
    "r8unorm": ("u1", 1),
    "r16sint": ("i2", 1),
    "r32float": ("f4", 1),
    "rg32float": ("f4", 2),
}
DTYPES = ("u1", "i1", "?", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "f8", "c8", ">i2", ">u4", ">f4", "4V1")
ROWS, COLUMNS = 3, 5


def _textures(bench: Bench, device: Device) -> dict[str, Texture]:
    """Return one of each format that the device has."""
    made = {}
    for format in FORMATS:
        try:
            made[format] = device.create_texture(COLUMNS, ROWS, format)
        except UsageError:
            bench.check(format != "rgba8unorm", "the device has textures, and not rgba8unorm")
    return made


def _texels(format: str, key: int) -> NDArray[Any]:
    dtype, channels = FORMATS[format]
    values = (pattern(key, ROWS * COLUMNS * channels) % 100).astype(dtype)
    return values.reshape((ROWS, COLUMNS, channels) if channels > 1 else (ROWS, COLUMNS))


def _shaped(dtype: str, channels: int) -> NDArray[Any]:
    shape = (ROWS, COLUMNS, channels) if channels else (ROWS, COLUMNS)
    return np.zeros(shape, dtype if dtype != "4V1" else [("r", "u1"), ("g", "u1"), ("b", "u1"), ("a", "u1")])


@pytest.mark.clause("ring.kinds", requires=("textures",))
def test_a_texture_takes_its_own_dtype_alone(bench: Bench) -> None:
    device = bench.open()
    ring, pool = device.staging_ring(buffer_size=4096), device.readback_pool()
    for format, texture in _textures(bench, device).items():
        own, channels = FORMATS[format]
        wanted = _texels(format, 1)
        bench.wait(ring.upload(wanted, texture))
        for dtype in DTYPES:
            for given in (0, 1, 2, 4):
                if np.dtype("u1" if dtype == "4V1" else dtype) == np.dtype(own) and dtype != "4V1":
                    right = given == channels or (given == 0 and channels == 1)
                    if right:
                        continue
                with bench.raises(UsageError, f"{dtype} x {given} to {format}"):
                    ring.upload(_shaped(dtype, given), texture, timeout=bench.patience)
        bench.same(
            pool.read(texture).wait(bench.patience), wanted, f"{format}, after uploads that were refused"
        )
        raw = _texels(format, 2).tobytes()
        bench.wait(ring.upload(np.frombuffer(raw, own).reshape(wanted.shape), texture))
        seen = pool.read(texture).wait(bench.patience)
        bench.same(seen, _texels(format, 2), f"bytes that were told to be {own}, in {format},")


@pytest.mark.clause("ring.kinds")
def test_a_buffer_takes_bytes_and_nothing_that_has_none(bench: Bench) -> None:
    device = bench.open()
    ring = device.staging_ring(buffer_size=4096)
    buffer = painted(bench, device, 64)
    before = ring.stats()
    wrong: dict[str, Any] = {
        "a masked array": np.ma.array(pattern(1, 8), mask=[True] * 4 + [False] * 4),
        "an array of objects": np.array([object(), 1]),
        "None": None,
        "text": "text",
        "an array of text": np.array(["a", "b"]),
        "a buffer": buffer,
        "records with objects": np.zeros(2, [("a", "u1"), ("b", "O")]),
        "a mapping": {"a": 1},
    }
    for kind, data in wrong.items():
        with bench.raises(UsageError, f"upload of {kind}"):
            ring.upload(data, buffer, timeout=bench.patience)
    bench.check(ring.stats() == before, f"refused uploads made {ring.stats()} of {before}")
    wanted = np.full(64, 0xA5, np.uint8)
    sendings: tuple[tuple[str, Any, bytes], ...] = (
        ("bytes", b"ab\x00", b"ab\x00"),
        ("a bytearray", bytearray(b"cd"), b"cd"),
        ("a memoryview", memoryview(b"efg")[::2], b"eg"),
        ("no bytes", b"", b""),
        ("an empty bytearray", bytearray(), b""),
        ("another byte order", np.array([1], ">u4"), b"\x00\x00\x00\x01"),
    )
    for at, (kind, sent, data) in enumerate(sendings):
        bench.wait(ring.upload(sent, buffer, 8 * at, timeout=bench.patience))
        wanted[8 * at : 8 * at + len(data)] = np.frombuffer(data, np.uint8)
        with device.readback_pool(buffer_size=4096) as pool:
            bench.same(pool.read(buffer).wait(bench.patience), wanted, f"upload of {kind}")


@pytest.mark.clause("readback.kinds", requires=("textures",))
def test_a_texture_is_read_as_its_own_dtype_alone(bench: Bench) -> None:
    device = bench.open()
    ring, pool = device.staging_ring(buffer_size=4096), device.readback_pool(buffer_size=4096)
    for format, texture in _textures(bench, device).items():
        own, wanted = FORMATS[format][0], _texels(format, 3)
        bench.wait(ring.upload(wanted, texture))
        before = pool.stats()
        for dtype in ("u1", "i1", "u2", ">i2", "i4", "f2", "f4", ">f4", "f8"):
            if np.dtype(dtype) == np.dtype(own):
                continue
            with bench.raises(UsageError, f"{format} read as {dtype}"):
                pool.read(texture, dtype=dtype)
            out = np.zeros(wanted.nbytes, np.uint8)
            if wanted.nbytes % np.dtype(dtype).itemsize == 0:
                with bench.raises(UsageError, f"{format} read into an array of {dtype}"):
                    pool.read(texture, out=out.view(dtype))
        with bench.raises(UsageError, f"{format} read into a masked array"):
            pool.read(texture, out=np.ma.array(np.zeros_like(wanted), mask=False))
        bench.check(pool.stats() == before, f"refused reads made {pool.stats()} of {before}")
        bench.same(pool.read(texture, dtype=own).wait(bench.patience), wanted, f"{format} read as {own}")
        out = np.zeros_like(wanted)
        pool.read(texture, out=out).wait(bench.patience)
        bench.same(out, wanted, f"{format} read into an array of {own}")


@pytest.mark.clause("readback.kinds")
def test_a_buffer_is_read_as_what_was_asked_for(bench: Bench) -> None:
    device = bench.open()
    buffer = painted(bench, device, 64)
    with device.readback_pool(buffer_size=4096) as pool:
        before = pool.stats()
        for dtype, given in (("f4", "i4"), ("u2", "u1"), ("<i4", ">i4")):
            with bench.raises(UsageError, f"a read as {dtype} into an array of {given}"):
                pool.read(buffer, dtype=dtype, out=np.zeros(64 // np.dtype(given).itemsize, given))
        none: tuple[Any, ...] = ("O", "no such", "U", [("a", "O")])
        for item in none:
            with bench.raises(UsageError, f"a read as {item}"):
                pool.read(buffer, dtype=item)
        with bench.raises(UsageError, "a read into a masked array"):
            pool.read(buffer, out=np.ma.array(np.zeros(64, np.uint8), mask=True))
        bench.check(pool.stats() == before, f"refused reads made {pool.stats()} of {before}")
        out = np.zeros(16, "f4")
        pool.read(buffer, out=out).wait(bench.patience)
        bench.same(out.view("u1"), np.full(64, 0xA5, np.uint8), "bytes read into an array of any dtype")
