"""That every integer type means its value wherever a number of bytes, texels or threads is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.staging import Bytes, pattern
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Buffer, Device

TYPES: tuple[type[np.integer[Any]], ...] = (
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
)
NOT_WHOLE: tuple[Any, ...] = (True, np.True_, 16.0, np.float32(16), 16.5)
ROOM = 70_000
SIDE = 300
"""Of a texture: a place in it and a size add up to more than a byte holds. Less where less is the limit."""


class Kind:
    """Numbers in one integer type, near its end where there is memory for it, so that sums would overflow."""

    def __init__(self, type: type[np.integer[Any]]) -> None:
        self.type = type
        self.end = int(np.iinfo(type).max)

    def __call__(self, value: int) -> Any:
        """Return ``value`` in this type, or as an int where the type does not hold it."""
        return self.type(value) if value <= self.end else value

    def far(self, most: int) -> int:
        """Return a number close to the end of the type, at most ``most``."""
        return min(self.end - 10, most)


def _filled(bench: Bench, device: Device) -> tuple[Buffer, Bytes]:
    """Return a buffer of random bytes, and those bytes."""
    buffer, wanted = device.create_buffer(ROOM), bench.payload(ROOM)
    bench.poke(device, buffer, wanted)
    return buffer, wanted.copy()


def _refused(
    bench: Bench, calls: dict[str, Callable[[Any], Any]], state: Callable[[], Any], values: Any = NOT_WHOLE
) -> None:
    before = state()
    for name, call in calls.items():
        for value in values:
            with bench.raises(UsageError, f"{name} of {value!r}"):
                call(value)
            bench.check(
                state() == before, f"{name} of {value!r} was refused and changed {before} to {state()}"
            )


@pytest.mark.clause("ring.integers")
@pytest.mark.parametrize("type", TYPES)
def test_slices_and_uploads_land_where_any_integer_says(bench: Bench, type: Any) -> None:
    device, kind = bench.open(), Kind(type)
    target, wanted = _filled(bench, device)
    ring = device.staging_ring(ring_count=kind(3), buffer_size=kind(4096))
    bench.check((ring.ring_count, ring.buffer_size) == (3, 4096), f"{type}: a ring of 3 x 4096 is {ring}")
    at = kind.far(ROOM - 400)
    bench.wait(ring.upload(pattern(1, 100), target, kind(at)), f"an upload at {kind(at)!r}")
    wanted[at : at + 100] = pattern(1, 100)
    slot = ring.reserve(kind(100), bench.patience)
    bench.check(slot.nbytes == 100, f"reserve({kind(100)!r}) has {slot.nbytes} bytes")
    array = slot.array("u1", (kind(10), kind(10)))
    bench.check(array.shape == (10, 10), f"array of {kind(10)!r} x {kind(10)!r} is {array.shape}")
    array[...] = pattern(2, 100).reshape(10, 10)
    del array
    slot.commit(target, kind(at + 5))
    wanted[at + 5 : at + 105] = pattern(2, 100)
    bench.wait(ring.advance())
    bench.same(bench.peek(device, target), wanted, f"bytes sent to places of {type.__name__}")


@pytest.mark.clause("ring.integers", requires=("textures",))
@pytest.mark.parametrize("type", TYPES)
def test_rows_land_where_any_integer_says(bench: Bench, type: Any) -> None:
    device, kind = bench.open(), Kind(type)
    side = min(SIDE, device.limits.max_texture_size)
    texture = device.create_texture(kind(side), kind(side), "rgba8unorm")
    ring = device.staging_ring(buffer_size=100_000)
    wanted = pattern(3, 4 * side * side).reshape(side, side, 4)
    bench.wait(ring.upload(wanted, texture))
    at, step = kind.far(side - 60), device.limits.row_pitch_alignment
    square = pattern(4, 10_000).reshape(50, 50, 4)
    bench.wait(ring.upload(square, texture, origin=(kind(at), kind(at))))
    wanted[at : at + 50, at : at + 50] = square
    pitch = -(-240 // step) * step
    slot = ring.reserve(kind(2 * pitch + 200), bench.patience)
    slot.view[:] = pattern(5, slot.nbytes)
    sent = pattern(5, slot.nbytes)
    slot.commit_rows(texture, origin=(kind(at), kind(7)), size=(kind(50), kind(3)), row_pitch=kind(pitch))
    bench.wait(ring.advance())
    for y in range(3):
        wanted[7 + y, at : at + 50] = sent[y * pitch : y * pitch + 200].reshape(50, 4)
    with device.readback_pool() as pool:
        seen = pool.read(texture).wait(bench.patience)
    bench.same(seen, wanted, f"texels sent to places of {type.__name__}")


@pytest.mark.clause("ring.integers")
def test_what_is_no_integer_stages_nothing(bench: Bench) -> None:
    device = bench.open()
    target, wanted = _filled(bench, device)
    ring = device.staging_ring(ring_count=2, buffer_size=4096)
    slot = ring.reserve(16, bench.patience)
    slot.view[:] = wanted[:16] = pattern(6, 16)
    calls: dict[str, Callable[[Any], Any]] = {
        "ring_count": lambda value: device.staging_ring(ring_count=value),
        "buffer_size": lambda value: device.staging_ring(buffer_size=value),
        "allocate": ring.allocate,
        "reserve": lambda value: ring.reserve(value, 1),
        "commit at an offset": lambda value: slot.commit(target, value),
        "array of a shape": lambda value: slot.array("u1", value),
    }
    _refused(bench, calls, lambda: (ring.stats(), device.budget.metrics().total_bytes))
    slot.commit(target)
    bench.wait(ring.advance())
    uploads = {"upload at an offset": lambda value: ring.upload(pattern(7, 9), target, value)}
    _refused(bench, uploads, ring.stats)
    bench.same(bench.peek(device, target), wanted, "after uploads that were refused, the target")


@pytest.mark.clause("readback.integers")
@pytest.mark.parametrize("type", TYPES)
def test_reads_begin_where_any_integer_says(bench: Bench, type: Any) -> None:
    device, kind = bench.open(), Kind(type)
    buffer, memory = _filled(bench, device)
    with device.readback_pool(max_pending_ops=kind(2), buffer_size=kind(4096)) as pool:
        at = kind.far(ROOM - 400)
        seen = pool.read(buffer, offset=kind(at), nbytes=kind(100)).wait(bench.patience)
        bench.same(seen, memory[at : at + 100], f"{kind(100)!r} bytes read at {kind(at)!r}")
        seen = pool.read(buffer, offset=kind(at), shape=(kind(100), kind(3))).wait(bench.patience)
        bench.same(seen, memory[at : at + 300].reshape(100, 3), f"{kind(100)!r} x 3 bytes at {kind(at)!r}")


@pytest.mark.clause("readback.integers", requires=("textures",))
@pytest.mark.parametrize("type", TYPES)
def test_rectangles_are_read_where_any_integer_says(bench: Bench, type: Any) -> None:
    device, kind = bench.open(), Kind(type)
    side = min(SIDE, device.limits.max_texture_size)
    texture = device.create_texture(side, side, "rgba8unorm")
    texels = pattern(8, 4 * side * side).reshape(side, side, 4)
    with device.staging_ring(buffer_size=100_000) as ring:
        bench.wait(ring.upload(texels, texture))
    at = kind.far(side - 60)
    with device.readback_pool() as pool:
        read = pool.read(texture, origin=(kind(at), kind(at)), size=(kind(50), kind(50)))
        bench.same(read.wait(bench.patience), texels[at : at + 50, at : at + 50], f"texels at {kind(at)!r}")


@pytest.mark.clause("readback.integers")
def test_what_is_no_integer_reads_nothing(bench: Bench) -> None:
    device = bench.open()
    buffer, memory = _filled(bench, device)
    with device.readback_pool(max_pending_ops=2, buffer_size=4096) as pool:
        calls: dict[str, Callable[[Any], Any]] = {
            "offset": lambda value: pool.read(buffer, offset=value, nbytes=16),
            "nbytes": lambda value: pool.read(buffer, nbytes=value),
            "shape": lambda value: pool.read(buffer, shape=value),
            "max_pending_ops": lambda value: device.readback_pool(max_pending_ops=value),
            "buffer_size": lambda value: device.readback_pool(buffer_size=value),
        }
        _refused(bench, calls, lambda: (pool.stats(), device.budget.metrics().total_bytes))
        bench.same(pool.read(buffer, nbytes=16).wait(bench.patience), memory[:16], "a read after those")


@pytest.mark.clause("device.integers")
@pytest.mark.parametrize("type", TYPES)
def test_commands_mean_what_any_integer_says(bench: Bench, type: Any) -> None:
    device, kind = bench.open(), Kind(type)
    here, source = _filled(bench, device)
    there, wanted = _filled(bench, device)
    at, to = kind.far(ROOM - 400), kind.far(ROOM - 300) - 3
    commands = device.command_list()
    commands.copy(here, there, kind(100), source_offset=kind(at), target_offset=kind(to))
    wanted[to : to + 100] = source[at : at + 100]
    commands.fill(there, kind(77), offset=kind(to + 90), nbytes=kind(100))
    wanted[to + 90 : to + 190] = 77
    bench.wait(device.submit(commands))
    bench.same(bench.peek(device, there), wanted, f"copies and fills in numbers of {type.__name__}")
    words = device.create_buffer(kind(112))
    bench.check(words.nbytes == 112, f"create_buffer({kind(112)!r}) has {words.nbytes} bytes")
    kernel = device.create_kernel(bench.kernel("increment"))
    bench.wait(
        device.submit(
            device.command_list().dispatch(
                kernel, [words], [kind(101), kind(28)], threads=(kind(28), kind(1))
            )
        )
    )
    bench.same(
        bench.peek(device, words).view("u4"), np.full(28, 101, "u4"), f"a kernel of {kind(28)!r} threads"
    )
    point = device.lanes["compute"].timeline.point(kind(1))
    bench.check(point.done and point.value == 1, f"point({kind(1)!r}) is {point}")
    with device.budget.reserve(kind(100)) as reservation:
        bench.check(reservation.nbytes == 100, f"reserve({kind(100)!r}) took {reservation.nbytes} bytes")


@pytest.mark.clause("device.integers")
def test_what_is_no_integer_records_and_makes_nothing(bench: Bench) -> None:
    device = bench.open()
    here, _ = _filled(bench, device)
    there, wanted = _filled(bench, device)
    kernel, commands = device.create_kernel(bench.kernel("increment")), device.command_list()
    calls: dict[str, Callable[[Any], Any]] = {
        "create_buffer": device.create_buffer,
        "copy of nbytes": lambda value: commands.copy(here, there, value),
        "copy from an offset": lambda value: commands.copy(here, there, 8, source_offset=value),
        "copy to an offset": lambda value: commands.copy(here, there, 8, target_offset=value),
        "fill with a value": lambda value: commands.fill(there, value),
        "fill at an offset": lambda value: commands.fill(there, 1, offset=value),
        "fill of nbytes": lambda value: commands.fill(there, 1, nbytes=value),
        "threads": lambda value: commands.dispatch(kernel, [there], [1, 4], threads=value),
        "a point": device.lanes["compute"].timeline.point,
        "reserve": device.budget.reserve,
        "set_limit": device.budget.set_limit,
    }
    _refused(bench, calls, lambda: (len(commands), device.budget.metrics()))
    bench.wait(device.submit(commands.fill(there, 1, nbytes=1)))
    wanted[0] = 1
    bench.same(bench.peek(device, there), wanted, "a list on which commands were refused")
