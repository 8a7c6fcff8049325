"""Readback: exactly the region asked for, in a fresh array or the caller's."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.sources import all_of, stamped, take
from forge3d_conformance.texels import FORMATS, MANDATORY
from forge3d_conformance.violation import ClauseViolation
from forge3d_core.errors import ForgeError, OutOfRange, UsageError
from forge3d_core.protocols import Buffer, Device, ReadbackHandle, ReadbackPool, Texture

DTYPES = ("u1", "i1", "?", "<i2", ">u2", "<f4", "<u4", ">f8", "<c16", "S3", [("a", "u1"), ("b", "<u4")])
EDGES = (0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 255, 256, 257, 1000, 4095, 4096, 4097)


@attrs.frozen
class Asked:
    """A region of a buffer that ends ``tail`` bytes before the buffer does, and how to ask for it."""

    offset: int
    count: int
    dtype: Any
    tail: int
    form: str

    @property
    def item(self) -> np.dtype[Any]:
        item: np.dtype[Any] = np.dtype(self.dtype)
        return item

    @property
    def nbytes(self) -> int:
        return self.count * self.item.itemsize

    def read(self, pool: ReadbackPool, buffer: Buffer) -> ReadbackHandle:
        match self.form:
            case "nbytes":
                return pool.read(buffer, offset=self.offset, nbytes=self.nbytes, dtype=self.dtype)
            case "flat":
                return pool.read(buffer, offset=self.offset, dtype=self.dtype, shape=self.count)
            case "table":
                return pool.read(buffer, offset=self.offset, dtype=self.dtype, shape=(1, self.count, 1))
        return pool.read(buffer, offset=self.offset, nbytes=self.nbytes)

    def wanted(self, memory: NDArray[np.uint8]) -> NDArray[Any]:
        data = memory[self.offset : self.offset + self.nbytes]
        if self.form == "bytes":
            return data
        return data.view(self.item).reshape((1, self.count, 1) if self.form == "table" else (self.count,))


ASKED = st.builds(
    Asked,
    offset=st.sampled_from(EDGES) | st.integers(0, 5000),
    count=st.sampled_from(EDGES) | st.integers(0, 600),
    dtype=st.sampled_from(DTYPES),
    tail=st.integers(0, 5),
    form=st.sampled_from(("nbytes", "flat", "table", "bytes")),
)


def exactly(bench: Bench, seen: NDArray[Any], wanted: NDArray[Any], what: str) -> None:
    """Compare dtype, shape and bytes; byte for byte, so that NaNs and unequal zeros count."""
    bench.check(seen.dtype == wanted.dtype, f"{what}: dtype {seen.dtype} where {wanted.dtype} was expected")
    bench.check(seen.shape == wanted.shape, f"{what}: shape {seen.shape} where {wanted.shape} was expected")
    bench.same(
        np.frombuffer(seen.tobytes(), np.uint8), np.frombuffer(wanted.tobytes(), np.uint8), f"bytes of {what}"
    )


@pytest.mark.clause("readback.exact")
@given(regions=st.lists(ASKED, min_size=1, max_size=6), leased=st.booleans())
def test_every_region_of_a_buffer_comes_out_as_numpy_would_slice_it(
    bench: Bench, regions: list[Asked], leased: bool
) -> None:
    with bench.open() as device, device.readback_pool(max_pending_ops=2, buffer_size=4096) as pool:
        pending = []
        for asked in regions:
            memory = bench.payload(max(1, asked.offset + asked.nbytes + asked.tail))
            buffer = device.create_buffer(memory.nbytes)
            bench.poke(device, buffer, memory)
            try:
                pending.append((asked, asked.wanted(memory), asked.read(pool, buffer)))
            except ForgeError as error:
                raise ClauseViolation(f"{asked} was refused: {type(error).__name__} ({error})") from error
        for asked, wanted, handle in pending:
            if leased:
                with handle.lease(bench.patience) as array:
                    exactly(bench, array, wanted, f"the lease of {asked}")
            else:
                exactly(bench, take(bench, handle), wanted, str(asked))


@pytest.mark.clause("readback.exact")
def test_what_is_left_out_is_the_rest_of_the_buffer(bench: Bench) -> None:
    device = bench.open()
    memory = bench.payload(5003)
    buffer = device.create_buffer(memory.nbytes)
    bench.poke(device, buffer, memory)
    with device.readback_pool(buffer_size=4096) as pool:
        exactly(bench, take(bench, pool.read(buffer)), memory, "a read of a whole buffer")
        exactly(bench, take(bench, pool.read(buffer, offset=4999)), memory[4999:], "the rest from 4999")
        exactly(bench, take(bench, pool.read(buffer, offset=5003)), memory[5003:], "the rest from the end")
        exactly(
            bench,
            take(bench, pool.read(buffer, offset=1001, dtype=">u4", shape=())),
            memory[1001:1005].view(">u4").reshape(()),
            "a scalar",
        )


@pytest.mark.clause("readback.exact", requires=())
def test_what_does_not_fit_is_refused_and_starts_nothing(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [1])
    with device.readback_pool(buffer_size=4096) as pool:
        before = pool.stats()
        for offset, nbytes in ((0, 1001), (1000, 1), (1001, 0), (-1, 1), (999, 2)):
            with bench.raises(OutOfRange, f"bytes {offset} to {offset + nbytes} of a buffer of 1000"):
                pool.read(buffer, offset=offset, nbytes=nbytes)
        with bench.raises(UsageError, "7 bytes as 4-byte words"):
            pool.read(buffer, nbytes=7, dtype="u4")
        with bench.raises(UsageError, "8 bytes as 3 words"):
            pool.read(buffer, nbytes=8, dtype="u4", shape=3)
        bench.check(pool.stats() == before, f"refused reads made {pool.stats()} of {before}")


def textured(
    bench: Bench, device: Device, format: str, width: int, height: int
) -> tuple[Texture, NDArray[Any]]:
    """Return a texture of random texels, and the texels."""
    dtype, channels = FORMATS[format]
    texels: NDArray[Any] = bench.payload(width * height * channels * np.dtype(dtype).itemsize).view(dtype)
    texels = texels.reshape((height, width) if channels == 1 else (height, width, channels))
    texture = device.create_texture(width, height, format)
    with device.staging_ring(ring_count=2, buffer_size=1 << 17) as ring:
        ring.upload(texels, texture)
    return texture, texels


@pytest.mark.clause("readback.exact", requires=("textures",))
def test_every_texture_format_comes_out_without_padding(bench: Bench) -> None:
    with bench.open() as device, device.readback_pool(buffer_size=4096) as pool:
        bench.check(MANDATORY in bench.target.formats, f"the device has textures, and not {MANDATORY}")
        for format in bench.formats(*FORMATS):
            texture, texels = textured(bench, device, format, 37, 5)
            exactly(bench, take(bench, pool.read(texture)), texels, f"37x5 texels of {format}")


@pytest.mark.clause("readback.exact", requires=("textures",))
@given(
    format=st.sampled_from(("r8unorm", "rgba8unorm", "rgba32float")),
    across=st.tuples(
        st.integers(0, 9), st.sampled_from((0, 1, 15, 16, 17, 63, 64, 65, 100)), st.integers(0, 9)
    ),
    down=st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3)),
    leased=st.booleans(),
)
def test_every_rectangle_of_a_texture_comes_out_as_numpy_would_slice_it(
    bench: Bench, format: str, across: tuple[int, int, int], down: tuple[int, int, int], leased: bool
) -> None:
    (format,) = bench.formats(format)
    across, down = (_clipped(bench.target.limits.max_texture_size, along) for along in (across, down))
    (x, width, _), (y, height, _) = across, down
    with bench.open() as device, device.readback_pool(buffer_size=4096) as pool:
        texture, texels = textured(bench, device, format, max(1, sum(across)), max(1, sum(down)))
        handle = pool.read(texture, origin=(x, y), size=(width, height))
        wanted = texels[y : y + height, x : x + width]
        what = f"{width}x{height} texels at ({x}, {y}) of {format}"
        if leased:
            with handle.lease(bench.patience) as array:
                exactly(bench, array, wanted, f"the lease of {what}")
        else:
            exactly(bench, take(bench, handle), wanted, what)


def _clipped(limit: int, along: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return texels before, in and behind a rectangle so that a texture has room for them."""
    before, inside, behind = along
    return before, min(inside, limit - before - behind), behind


def framed(nbytes: int, lead: int = 33, tail: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an array for ``nbytes`` and, with guard bytes around it, the memory that it lies in."""
    memory = np.full(lead + nbytes + tail, 0xA5, np.uint8)
    return memory[lead : lead + nbytes], memory


@pytest.mark.clause("readback.into", requires=())
def test_a_given_array_is_filled_and_returned(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [7], 1024)
    with device.readback_pool(max_pending_ops=2, buffer_size=4096) as pool:
        for offset, nbytes, dtype, shape in (
            (0, 1024, "u1", (1024,)),
            (3, 1001, "u1", (7, 11, 13)),
            (1, 1020, "<f4", (255,)),
            (5, 1, "u1", ()),
            (2, 0, "u1", (0, 3)),
        ):
            run, memory = framed(nbytes)
            out: NDArray[Any] = run.view(dtype).reshape(shape)
            handle = pool.read(buffer, offset=offset, nbytes=nbytes, out=out)
            what = f"a read of {nbytes} bytes into {dtype} {shape}"
            bench.check(take(bench, handle) is out, f"{what}: wait returned another array")
            bench.check(handle.try_get() is out, f"{what}: try_get returned another array")
            bench.same(run, all_of(7, nbytes), f"{what}: the given array")
            memory[33 : 33 + nbytes] = 0xA5
            bench.same(memory, all_of(0xA5, memory.nbytes), f"{what}: the memory around the given array")


@pytest.mark.clause("readback.into", requires=())
def test_many_arrays_are_filled_whoever_lands_them(bench: Bench) -> None:
    device = bench.open()
    values = list(range(1, 9))
    buffers = stamped(bench, device, values)
    outs = [np.zeros(1000, np.uint8) for _ in values]
    with device.readback_pool(max_pending_ops=2, buffer_size=4096) as pool:
        handles = [pool.read(buffer, out=out) for buffer, out in zip(buffers, outs, strict=True)]
        for value, out, handle in reversed(list(zip(values, outs, handles, strict=True))):
            bench.check(take(bench, handle) is out, "wait returned another array than the given one")
            bench.same(out, all_of(value), "the given array")


@pytest.mark.clause("readback.into", requires=())
def test_an_array_that_will_not_do_is_refused_first(bench: Bench) -> None:
    device = bench.open()
    (buffer,) = stamped(bench, device, [7])
    frozen = np.zeros(1000, np.uint8)
    frozen.flags.writeable = False
    wrong: dict[str, Any] = {
        "too small": np.zeros(999, np.uint8),
        "too large": np.zeros(1001, np.uint8),
        "read-only": frozen,
        "one byte a thousand times": as_strided(np.zeros(1, np.uint8), (1000,), (0,)),
    }
    with device.readback_pool(buffer_size=4096) as pool:
        before = pool.stats()
        for kind, out in wrong.items():
            with bench.raises(UsageError, f"a read into an array that is {kind}"):
                pool.read(buffer, out=out)
            bench.check(not out.any(), f"an array that is {kind} was written all the same")
        bench.check(pool.stats() == before, f"refused reads made {pool.stats()} of {before}")
        right = np.zeros(1000, np.uint8)
        bench.check(take(bench, pool.read(buffer, out=right)) is right, "wait returned another array")


@pytest.mark.clause("readback.into", requires=())
def test_an_array_with_gaps_is_filled_or_refused_first(bench: Bench) -> None:
    device = bench.open()
    data = np.arange(4000, dtype=np.uint8)
    buffer = device.create_buffer(4000)
    with device.staging_ring() as ring:
        ring.upload(data, buffer).wait(bench.patience)
    memories = [np.full(12000, 0xA5, np.uint8) for _ in range(5)]
    layouts: dict[str, NDArray[Any]] = {
        "every second byte": memories[0][4000::2],
        "backwards": memories[1][6000:2000:-1],
        "in Fortran's order": memories[2][:4000].reshape(40, 100).T,
        "a part of a matrix": memories[3].view("<f4").reshape(50, 60)[10:35, 7:47],
        "items of three bytes": memories[4][:3996].view("V3").reshape(36, 37)[::-1, ::-1],
    }
    with device.readback_pool(buffer_size=4096) as pool:
        for (kind, out), memory in zip(layouts.items(), memories, strict=True):
            before = pool.stats()
            try:
                handle = pool.read(buffer, nbytes=out.nbytes, out=out)
            except UsageError:
                bench.check(pool.stats() == before, f"a refused read made {pool.stats()} of {before}")
                bench.same(memory, all_of(0xA5, memory.nbytes), f"a refused array, {kind}")
                continue
            bench.check(take(bench, handle) is out, f"into an array {kind}, wait returned another")
            bench.same(np.frombuffer(out.tobytes(), np.uint8), data[: out.nbytes], f"an array {kind}")
            raw = np.frombuffer(all_of(0xA5, out.nbytes).tobytes(), out.dtype)
            out[...] = raw.reshape(out.shape)
            bench.same(memory, all_of(0xA5, memory.nbytes), f"what lies beside an array {kind}")


@pytest.mark.clause("readback.into", requires=("textures",))
def test_a_texture_is_read_into_a_given_array(bench: Bench) -> None:
    device = bench.open()
    texture, texels = textured(bench, device, "rgba8unorm", 37, 6)
    run, memory = framed(20 * 4 * 4)
    out = run.reshape(4, 20, 4)
    with device.readback_pool(buffer_size=4096) as pool:
        handle = pool.read(texture, origin=(7, 1), size=(20, 4), out=out)
        bench.check(take(bench, handle) is out, "wait returned another array than the given one")
    bench.same(out, texels[1:5, 7:27], "a rectangle in the given array")
    memory[33 : 33 + run.nbytes] = 0xA5
    bench.same(memory, all_of(0xA5, memory.nbytes), "the memory around the given array")
