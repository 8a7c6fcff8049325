"""Every number that a public call takes: each integer type means its value, anything else changes nothing."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import pytest

import forge3d_core as forge3d
from forge3d_core import (
    AsyncReadbackConfig,
    Binding,
    DeviceOptions,
    ForgeError,
    KernelError,
    KernelSource,
    Param,
    TextureFormat,
    UsageError,
)
from forge3d_core.arguments import MAX_SHOWN, shown
from forge3d_core.units import parse_bytes

PATIENCE = 30.0
INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
SOURCE = KernelSource(
    "k", {"host": lambda threads, data, n: np.copyto(data[:4], n)}, [Binding("data", "write")], [Param("n")]
)


class World:
    """A device with one of everything, and a look at all that a refused call might have changed."""

    def __init__(self) -> None:
        self.device = forge3d.open_device("host")
        self.a, self.b = self.device.create_buffer(1000), self.device.create_buffer(1000)
        self.texture = self.device.create_texture(250, 250, "r8unorm")
        self.ring = self.device.staging_ring(buffer_size=4096)
        self.pool = self.device.readback_pool()
        self.kernel = self.device.create_kernel(SOURCE)
        self.list = self.device.command_list()
        self.slot = self.ring.reserve(900)
        self.other = self.device.staging_ring(buffer_size=4096)
        self.other.upload((np.arange(1000) % 251).astype("u1"), self.a)
        self.device.wait_idle(PATIENCE)

    def state(self) -> tuple[Any, ...]:
        submitted = [lane.timeline.submitted for lane in self.device.lanes.values()]
        return len(self.list), self.ring.stats(), self.pool.stats(), self.device.budget.metrics(), submitted

    def run(self, record: Callable[[forge3d.CommandList], Any]) -> list[int]:
        """Return the bytes of ``b`` after it was cleared and a list has run."""
        record(commands := self.list if len(self.list) else self.device.command_list().fill(self.b, 9))
        self.device.submit(commands).wait(PATIENCE)
        return self.bytes()

    def bytes(self) -> list[int]:
        seen: list[int] = self.pool.read(self.b).wait(PATIENCE).tolist()
        return seen

    def staged(self, act: Callable[[forge3d.StagingSlice], Any], nbytes: int = 900) -> Any:
        """Return ``b`` and the texture after ``act`` has committed a slice of a pattern."""
        slot = self.other.reserve(nbytes, PATIENCE)
        slot.view[:] = np.arange(nbytes) % 249
        try:
            act(slot)
        except BaseException:
            slot.release()
            raise
        self.other.advance(PATIENCE)
        return self.bytes(), self.pool.read(self.texture).wait(PATIENCE).tolist()


@attrs.frozen
class Entry:
    """One number of one call: ``call(world, value)`` returns what came of it."""

    name: str
    call: Callable[[World, Any], Any]
    value: int = 100
    text: bool = False  # sizes may be text
    optional: bool = False  # None stands for a default

    @property
    def doubles(self) -> bool:
        """Whether twice the value makes sense, too."""
        return self.name.startswith(
            ("copy", "fill o", "fill n", "read o", "threads", "upload offset", "options")
        )


def streamed(world: World, value: Any) -> bool:
    stream = world.pool.stream(world.a, offset=value)
    try:
        return stream.push()
    finally:
        world.device.wait_idle(PATIENCE)
        stream.close()


ENTRIES = [
    Entry("create_buffer", lambda w, v: w.device.create_buffer(v).nbytes, text=True),
    Entry("create_texture width", lambda w, v: w.device.create_texture(v, 2).nbytes),
    Entry("create_texture height", lambda w, v: w.device.create_texture(2, v).nbytes),
    Entry("ring_count", lambda w, v: w.device.staging_ring(ring_count=v).ring_count, 3),
    Entry("ring buffer_size", lambda w, v: w.device.staging_ring(buffer_size=v).buffer_size, text=True),
    Entry(
        "max_pending_ops", lambda w, v: w.device.readback_pool(max_pending_ops=v).config.max_pending_ops, 3
    ),
    Entry(
        "pool buffer_size", lambda w, v: w.device.readback_pool(buffer_size=v).config.buffer_size, text=True
    ),
    Entry("config", lambda w, v: AsyncReadbackConfig(max_pending_ops=v).max_pending_ops),
    Entry("allocate", lambda w, v: w.ring.allocate(v).nbytes),
    Entry("reserve", lambda w, v: w.ring.reserve(v, PATIENCE).nbytes),
    Entry("upload offset", lambda w, v: (w.other.upload(np.full(100, 3, "u1"), w.b, v), w.bytes())[1]),
    Entry(
        "upload origin",
        lambda w, v: (
            w.other.upload(np.full((100, 100), 3, "u1"), w.texture, origin=(v, v)),
            w.pool.read(w.texture).wait(PATIENCE).tolist(),
        )[1],
    ),
    Entry("commit offset", lambda w, v: w.staged(lambda slot: slot.commit(w.b, v))),
    Entry(
        "commit_rows origin",
        lambda w, v: w.staged(lambda s: s.commit_rows(w.texture, origin=(v, v), size=(100, 5))),
    ),
    Entry(
        "commit_rows size",
        lambda w, v: w.staged(lambda s: s.commit_rows(w.texture, origin=(99, 99), size=(v, v)), 3600),
        60,
    ),
    Entry(
        "commit_rows row_pitch",
        lambda w, v: w.staged(lambda s: s.commit_rows(w.texture, size=(90, 8), row_pitch=v)),
        optional=True,
    ),
    Entry("array shape", lambda w, v: w.slot.array("u1", v).shape, optional=True),
    Entry("array shapes", lambda w, v: w.slot.array("u1", (3, v)).shape),
    Entry("copy nbytes", lambda w, v: w.run(lambda c: c.copy(w.a, w.b, v)), optional=True),
    Entry("copy source_offset", lambda w, v: w.run(lambda c: c.copy(w.a, w.b, source_offset=v))),
    Entry("copy target_offset", lambda w, v: w.run(lambda c: c.copy(w.a, w.b, target_offset=v))),
    Entry("copy all", lambda w, v: w.run(lambda c: c.copy(w.a, w.b, v, source_offset=v, target_offset=v))),
    Entry("fill value", lambda w, v: w.run(lambda c: c.fill(w.b, v))),
    Entry("fill offset", lambda w, v: w.run(lambda c: c.fill(w.b, 1, offset=v, nbytes=100))),
    Entry("fill nbytes", lambda w, v: w.run(lambda c: c.fill(w.b, 1, offset=100, nbytes=v)), optional=True),
    Entry("threads", lambda w, v: w.run(lambda c: c.dispatch(w.kernel, [w.b], [7], threads=v))),
    Entry("threads (x, y)", lambda w, v: w.run(lambda c: c.dispatch(w.kernel, [w.b], [7], threads=(v, v)))),
    Entry("read offset", lambda w, v: w.pool.read(w.a, offset=v, nbytes=100).wait(PATIENCE).tolist()),
    Entry("read nbytes", lambda w, v: w.pool.read(w.a, offset=v, nbytes=v).wait(PATIENCE).tolist()),
    Entry("read shape", lambda w, v: w.pool.read(w.a, shape=(v, 3)).wait(PATIENCE).shape),
    Entry("read shape, one", lambda w, v: w.pool.read(w.a, shape=v).wait(PATIENCE).shape, optional=True),
    Entry("read origin", lambda w, v: w.pool.read(w.texture, origin=(v, v)).wait(PATIENCE).shape),
    Entry("read size", lambda w, v: w.pool.read(w.texture, origin=(v, v), size=(v, v)).wait(PATIENCE).shape),
    Entry("stream offset", lambda w, v: streamed(w, v)),
    Entry("point", lambda w, v: w.device.lanes["compute"].timeline.point(v).value),
    Entry("reserve bytes", lambda w, v: w.device.budget.reserve(v).nbytes, text=True),
    Entry("check bytes", lambda w, v: w.device.budget.check(v), text=True),
    Entry("parse_bytes", lambda w, v: parse_bytes(v), text=True),
    Entry("options budget", lambda w, v: DeviceOptions(budget=v).budget, text=True),
    Entry("workgroup", lambda w, v: KernelSource("k", {}, workgroup=v).workgroup),
    Entry("workgroup (x, y)", lambda w, v: KernelSource("k", {}, workgroup=(v, v)).workgroup),
    Entry("block_bytes", lambda w, v: TextureFormat("own", v).block_bytes),
    Entry("block", lambda w, v: TextureFormat("own", 4, (v, v)).block),
    Entry("channels", lambda w, v: TextureFormat("own", v, dtype="u1", channels=v).channels),
]
LIMIT = Entry(
    "set_limit", lambda w, v: (w.device.budget.set_limit(v), w.device.budget.limit)[1], 1 << 24, text=True
)
BY_NAME = [pytest.param(entry, id=entry.name) for entry in (*ENTRIES, LIMIT)]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.slot.release()
    world.device.close()


def plain(value: Any) -> bool:
    """Whether no numpy integer has come through."""
    return all(map(plain, value)) if isinstance(value, (tuple, list)) else not isinstance(value, np.generic)


def written(value: int) -> list[Any]:
    """Return ``value`` in every integer type that holds it."""
    numbers: list[Any] = [np.dtype(t).type(value) for t in INTEGERS if value <= np.iinfo(t).max]
    return [*numbers, np.array(value), enum.IntEnum("Size", {"IT": value}).IT, np.intp(value)]


@pytest.mark.filterwarnings("ignore:device.*reservation:ResourceWarning")
@pytest.mark.parametrize("entry", BY_NAME)
def test_every_integer_type_means_its_value(world: World, entry: Entry) -> None:
    expected = entry.call(world, entry.value)
    for value in written(entry.value):
        seen = entry.call(world, value)
        assert seen == expected, f"{entry.name}: {type(value)}"
        assert plain(seen), f"{entry.name}: {type(value)} came through"
    larger = 2 * entry.value  # of which the sums pass a u1
    if entry.doubles:
        assert entry.call(world, np.uint8(larger)) == entry.call(world, larger)


@pytest.mark.parametrize("entry", BY_NAME)
def test_what_is_no_integer_is_refused_and_changes_nothing(world: World, entry: Entry) -> None:
    number = float(entry.value)
    values: list[Any] = [
        True,
        np.True_,
        np.array(True),
        number,
        number + 0.5,
        np.float32(number),
        np.float64(number),
    ]
    values += [float("nan"), Decimal(entry.value), Fraction(entry.value), 1j, b"100", object(), {}, [[1]]]
    values += [np.ma.array(entry.value, mask=True), np.array([number])]
    values += ["one"] if entry.text else ["one", "100"]
    values += [] if entry.optional else [None]
    before = world.state()
    for value in values:
        with pytest.raises(UsageError) as caught:
            entry.call(world, value)
        assert len(str(caught.value)) < 300
        assert "\n" not in str(caught.value)
        assert world.state() == before, f"{entry.name}: {value!r}"


@pytest.mark.parametrize("entry", BY_NAME)
def test_a_number_that_nothing_has_is_an_answer_or_an_error_of_ours(world: World, entry: Entry) -> None:
    for value in (1 << 62, 1 << 64, 1 << 200, 10**5000, -1, -(10**5000)):
        before = world.state()
        with contextlib.suppress(ForgeError):
            entry.call(world, value)
            continue
        if world.device.budget.metrics().refusals == before[3].refusals:  # a budget's answer counts
            assert world.state() == before, f"{entry.name}: {value}"


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("u4", [0, 7.0, np.uint8(200), np.True_, True, np.array(5), 2**32 - 1], [-1, 0.5, 2**32, 1e39]),
        ("i4", [-7, -7.0, np.int8(-100), False, -(2**31)], [2**31, -(2**31) - 1, 1.5]),
        (
            "f4",
            [1e38, -0.5, 10**38, np.float16(2), np.longdouble(3), True, float("inf"), float("nan")],
            [1e39],
        ),
    ],
)
def test_parameters_are_decided_when_recorded(
    world: World, dtype: Any, good: list[Any], bad: list[Any]
) -> None:
    seen: list[Any] = []
    source = KernelSource(
        "k", {"host": lambda _t, _x, v: seen.append(v)}, [Binding("x")], [Param("v", dtype)]
    )
    kernel = world.device.create_kernel(source)
    for value in good:
        world.device.submit(
            world.device.command_list().dispatch(kernel, [world.b], [value], threads=1)
        ).wait()
        got = seen.pop()
        assert type(got) is (float if dtype == "f4" else int)
        wanted = float(np.float32(value)) if dtype == "f4" else int(value)
        assert got == wanted or (got != got and wanted != wanted)
    others = [None, "1", b"1", 1j, Decimal(1), Fraction(1), np.array([1]), np.ma.array(1), [1], object()]
    nans = [] if dtype == "f4" else [float("nan"), float("inf"), np.float32("nan")]
    before = world.state()
    for value in (*bad, 10**400, -(10**400), *nans, *others):
        with pytest.raises(KernelError, match=f"'v' of kernel 'k' is an? {dtype}"):
            world.list.dispatch(kernel, [world.b], [value], threads=1)
    assert world.state() == before


def test_one_where_several_are_wanted(world: World) -> None:
    commands = world.device.command_list()
    with pytest.raises(UsageError, match=r"buffers is a sequence, not <buffer.*write \[...\]"):
        commands.dispatch(world.kernel, world.b, [4], threads=4)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"params is a sequence, not 4"):
        commands.dispatch(world.kernel, [world.b], 4, threads=4)  # type: ignore[arg-type]
    for params in ("4", {"n": 4}, {4}):
        with pytest.raises(UsageError, match="params is a sequence"):
            commands.dispatch(world.kernel, [world.b], params, threads=4)  # type: ignore[arg-type]
    commands.dispatch(world.kernel, (world.b,), np.array([4.0]), threads=4)
    for pair in (1, (1,), (1, 2, 3), "12", {1, 2}, {1: 2, 3: 4}, None):
        with pytest.raises(UsageError, match="origin"):
            world.pool.read(world.texture, origin=pair)  # type: ignore[arg-type]
    assert world.pool.read(world.texture, origin=np.array([249, 248])).wait(PATIENCE).shape == (2, 1)  # type: ignore[arg-type]


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __index__(self) -> int:
        raise RuntimeError("no")


def test_what_was_given_is_shown_in_a_line() -> None:
    for value in ("x" * 9999, "\x1b[31m\n", 10**9999, Hostile(), np.zeros((999, 9)), [list(range(999))] * 99):
        text = shown(value)
        assert text.isprintable()
        assert 0 < len(text) <= MAX_SHOWN
    with pytest.raises(UsageError, match="Hostile"):
        parse_bytes(Hostile())


@pytest.mark.parametrize("type", [np.uint8, np.int16, np.uint64])
def test_what_a_reclaimer_gives_back_is_counted_whatever_its_type(type: Any) -> None:
    asked: list[int] = []
    with forge3d.open_device("host", budget=1000) as device:
        held = device.budget.reserve(900)

        def little(nbytes: int) -> Any:
            asked.append(nbytes)
            return type(100)

        def rest(nbytes: int) -> Any:
            asked.append(nbytes)
            held.release()
            return np.int64(900)

        device.budget.add_reclaimer(little)
        device.budget.add_reclaimer(rest)
        with device.budget.reserve(1000) as reservation:
            assert reservation.nbytes == 1000
    assert asked == [900, 800]
