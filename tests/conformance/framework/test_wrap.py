"""The layer between a test and a real device: it must be invisible until a mutant changes something."""

from __future__ import annotations

import asyncio
import gc
import inspect
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from forge3d_conformance.mutants import Layer, Proxy, mutants, unwrap
from forge3d_conformance.mutants.driver.layer import DriverLayer
from forge3d_conformance.mutants.plugin import Tampered
from forge3d_core import pipeline, protocols
from forge3d_core.errors import Closed
from forge3d_core.host.plugin import forge3d_backend

PROTOCOLS: dict[str, type] = {
    "Backend": protocols.Backend,
    "Device": protocols.HostArrayDevice,
    "Lane": protocols.Lane,
    "Timeline": protocols.Timeline,
    "Point": protocols.FencePoint,
    "Buffer": protocols.RecyclableBuffer,
    "Texture": protocols.Texture,
    "Kernel": protocols.Kernel,
    "Commands": protocols.CommandList,
    "Ring": protocols.AsyncRing,
    "Slice": protocols.StagingSlice,
    "Pool": protocols.BatchingPool,
    "Handle": protocols.ReadbackHandle,
    "Lease": protocols.Lease,
    "Stream": protocols.ReadbackStream,
    "Budget": protocols.BudgetTracker,
    "Reservation": protocols.Reservation,
}
NOUN_OF = {
    protocols.Device: "Device",
    protocols.Buffer: "Buffer",
    protocols.StagingRing: "Ring",
    protocols.ReadbackPool: "Pool",
    **{protocol: noun for noun, protocol in PROTOCOLS.items()},
}


def nouns() -> Iterator[tuple[str, type[Proxy]]]:
    for name, value in vars(Layer).items():
        if inspect.isclass(value) and issubclass(value, Proxy):
            yield name, value


def leads_to(member: Any) -> str | None:
    """Which noun a protocol's member gives, by its annotation."""
    function = member.fget if isinstance(member, property) else member
    hint = typing.get_type_hints(function).get("return")
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and candidate in NOUN_OF:
            return NOUN_OF[candidate]
    return None


def members(protocol: type) -> dict[str, Any]:
    return {
        name: value
        for base in protocol.__mro__
        for name, value in vars(base).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }


@pytest.fixture
def layered() -> Iterator[Any]:
    layer = Layer()
    device = layer.wrap("Backend", forge3d_backend()).open()
    yield device
    device.close()


def test_there_is_a_proxy_for_each_noun() -> None:
    assert dict(nouns()).keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("noun", PROTOCOLS)
def test_every_member_that_leads_to_a_noun_is_wrapped(noun: str) -> None:
    proxy = getattr(Layer, noun)
    wanted = {name: found for name, member in members(PROTOCOLS[noun]).items() if (found := leads_to(member))}
    assert dict(proxy.NOUNS) == wanted


def test_a_whole_program_runs_over_the_layer(layered: Any) -> None:
    data = np.arange(1000, dtype=np.uint8)
    buffer = layered.create_buffer(1000)
    with layered.staging_ring(buffer_size=256) as ring, layered.readback_pool() as pool:
        assert isinstance(ring, Layer.Ring)
        point = ring.upload(data, buffer)
        assert isinstance(point, Layer.Point)
        point.wait(10)
        assert (pool.read(buffer, after=[point]).wait(10) == data).all()
        assert (pool.read(buffer, after=iter([point])).wait(10) == data).all()
        with pool.read(buffer).lease(10) as seen:
            assert isinstance(seen, np.ndarray)

        async def home() -> Any:
            handle = await pool.read_async(buffer)
            assert isinstance(handle, Layer.Handle)
            return await handle

        assert (asyncio.run(home()) == data).all()
    commands = layered.command_list().fill(buffer, 3)
    assert isinstance(commands, Layer.Commands)
    assert len(commands) == 1
    layered.submit(commands, after=[point]).wait(10)


def test_lasting_nouns_are_the_same_every_time(layered: Any) -> None:
    assert layered.budget is layered.budget
    assert layered.lanes["compute"].timeline is layered.lanes["compute"].timeline
    assert isinstance(layered.lanes, Mapping)


def test_points_are_equal_to_their_like(layered: Any) -> None:
    timeline = layered.lanes["compute"].timeline
    assert timeline.point(3) == timeline.point(3)
    assert timeline.point(3) != timeline.point(4)
    assert len({timeline.point(3), timeline.point(3)}) == 1


def test_a_dropped_proxy_keeps_nothing_alive(layered: Any) -> None:
    buffer = layered.create_buffer(64)
    kept = weakref.ref(unwrap(buffer))
    before = layered.budget.metrics().buffer_count
    del buffer
    gc.collect()
    assert kept() is None
    assert layered.budget.metrics().buffer_count == before - 1


def test_callbacks_get_wrapped_points(layered: Any, until: Callable[[Callable[[], bool]], None]) -> None:
    seen: list[Any] = []
    layered.lanes["compute"].timeline.point(1).on_done(lambda point, error: seen.append((point, error)))
    layered.close()
    until(lambda: len(seen) == 1)
    assert [(type(point), type(error)) for point, error in seen] == [(Layer.Point, Closed)]


def test_unwrap_goes_into_containers() -> None:
    layer = Layer()
    proxy = layer.wrap("Point", object())
    assert unwrap([proxy, (proxy,), {"a": proxy}]) == [proxy.target, (proxy.target,), {"a": proxy.target}]
    assert list(unwrap(iter([proxy]))) == [proxy.target]
    assert unwrap("text") == "text"


def test_an_override_reaches_the_sound_one_through_real() -> None:
    class Doubled(Layer):
        class Device(Layer.Device):
            def create_buffer(self, nbytes: int, *, label: str = "") -> Any:
                return self.real.create_buffer(2 * nbytes, label=label)

    device = Doubled().wrap("Backend", forge3d_backend()).open()
    try:
        buffer = device.create_buffer(8)
        assert isinstance(buffer, Layer.Buffer)
        assert buffer.nbytes == 16
    finally:
        device.close()


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_each_mutant_changes_something_that_the_protocol_has(mutant: Any) -> None:
    if issubclass(mutant.layer, Tampered):  # breaks the core, in a program of its own
        assert compile(mutant.layer.program, mutant.name, "exec").co_names
        return
    for system in mutant.layer.SYSTEMS:
        assert getattr(pipeline, system.__name__) is system
    changed = [
        (noun, name)
        for noun, base in nouns()
        if (replaced := getattr(mutant.layer, noun)) is not base
        for between in replaced.__mro__[: replaced.__mro__.index(base)]  # mutants share bases of their own
        for name in vars(between)
        if name in members(PROTOCOLS[noun]) or name in ("__init__", "__await__", "__enter__", "__exit__")
    ]
    assert changed or mutant.layer.SYSTEMS, f"{mutant.name} overrides nothing that a protocol names"
    for noun, base in nouns():
        assert issubclass(getattr(mutant.layer, noun), base)


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_each_mutant_says_what_it_breaks(mutant: Any) -> None:
    from forge3d_conformance.catalogue import load

    assert mutant.breaks in load()
    assert mutant.layer.__doc__
    area = "driver" if issubclass(mutant.layer, DriverLayer) else mutant.breaks.partition(".")[0]
    assert mutant.name.startswith(area + ".")
