"""What goes wrong in everybody's first program: each says what was given and what is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import forge3d_core as forge3d
from forge3d_core import AsyncReadbackConfig, Binding, ForgeError, KernelSource, Param, TextureFormat
from forge3d_core.device.device import AssembledDevice

PATIENCE = 30.0


@pytest.fixture
def device() -> Iterator[AssembledDevice]:
    with forge3d.open_device("host") as device:
        assert isinstance(device, AssembledDevice)
        yield device


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, _threads: Any, data: Any) -> None:
        data[:] = 5


class RaisingHash(Unhashable):
    def __hash__(self) -> int:  # type: ignore[override]
        raise RuntimeError("no hash today")


SOURCES = {"host": lambda _threads, x: None}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Binding("x", "rw", "f4"), "access is 'read', 'write' or 'readwrite', not 'rw'"),  # type: ignore[arg-type]
        (lambda: Binding("x", ["read"]), "access is 'read'"),  # type: ignore[arg-type]
        (lambda: Binding(3), "name is text, not 3"),  # type: ignore[arg-type]
        (lambda: Binding("x", "readwrite", "O"), "dtype object has no byte layout"),
        (lambda: Binding("x", dtype="no such"), "'no such' is not a numpy dtype"),
        (lambda: Binding("x", dtype=">f4"), "another byte order"),
        (lambda: Binding("x", dtype="(2,)f4"), "has no byte layout"),
        (lambda: Param("x", "f8"), "dtype is 'u4', 'i4' or 'f4', not 'f8'"),
        (lambda: AsyncReadbackConfig(backpressure="block"), "backpressure is 'wait', 'raise'"),  # type: ignore[arg-type]
        (
            lambda: AsyncReadbackConfig(max_pending_ops=0),
            "max_pending_ops is a whole number from 1 up, not 0",
        ),
        (lambda: AsyncReadbackConfig(pre_allocate="no"), "pre_allocate is True or False, not 'no'"),  # type: ignore[arg-type]
        (lambda: AsyncReadbackConfig(timeout="soon"), "timeout is a number of seconds, not 'soon'"),  # type: ignore[arg-type]
        (lambda: KernelSource("k k", SOURCES), "an identifier, not 'k k'"),
        (lambda: KernelSource(None, SOURCES), "an identifier, not None"),  # type: ignore[arg-type]
        (lambda: KernelSource("k", "@compute"), "sources maps a language to its source"),  # type: ignore[arg-type]
        (lambda: KernelSource("k", {"wgsl": b"@compute"}), "the wgsl source is bytes; give text"),  # type: ignore[dict-item]
        (lambda: KernelSource("k", {"wgsl": 3}), "text or a callable, not 3"),  # type: ignore[dict-item]
        (lambda: KernelSource("k", {3: "..."}), "sources maps a language"),  # type: ignore[dict-item]
        (lambda: KernelSource("k", SOURCES, Binding("x")), r"bindings is a sequence, not Binding"),  # type: ignore[arg-type]
        (lambda: KernelSource("k", SOURCES, ["x"]), "bindings are Binding objects, not 'x'"),  # type: ignore[list-item]
        (lambda: KernelSource("k", SOURCES, [], [Binding("x")]), "params are Param objects"),  # type: ignore[list-item]
        (lambda: KernelSource("k", SOURCES, workgroup=(8, 0)), "workgroup is an int or up to three"),  # type: ignore[arg-type]
        (lambda: TextureFormat("own", 0), "block_bytes is a whole number from 1 up"),
        (lambda: TextureFormat("own", 4, dtype="f4", channels=2), "2 channel.s. of f4 are not 4 bytes"),
    ],
)
def test_values_say_what_they_want(make: Any, says: str) -> None:
    with pytest.raises(forge3d.UsageError, match=says) as caught:
        make()
    assert len(str(caught.value)) < 200
    assert len(caught.value.args) == 1


def test_calls_say_what_they_want(device: AssembledDevice) -> None:
    buffer, ring, pool = device.create_buffer(8), device.staging_ring(), device.readback_pool()
    wrong: Any = {"ring_count": "two"}
    for call, says in (
        (lambda: ring.upload(buffer, np.zeros(4)), "data comes first"),
        (lambda: ring.upload(np.zeros(4), np.zeros(4)), "not memory of this device"),
        (lambda: ring.upload([[1], [2, 3]], buffer), "is not array data"),
        (lambda: ring.upload(wrong, buffer), "Python objects"),
        (lambda: ring.upload("text", buffer), "until it is encoded"),
        (
            lambda: device.readback_pool(max_pending=3),
            "no argument 'max_pending'; did you mean 'max_pending_ops'",
        ),
        (lambda: device.readback_pool(8), "AsyncReadbackConfig, not 8"),
        (lambda: device.staging_ring(**wrong), "ring_count, from 1 to 8, is a whole number, not 'two'"),
        (lambda: pool.stream(buffer, ofset=4), "stream has no argument 'ofset'; did you mean 'offset'"),
        (lambda: pool.stream(buffer, offset=9), "do not lie inside"),
        (lambda: asyncio.run(pool.read_async(buffer, bytes=4)), "read_async has no argument 'bytes'"),
        (lambda: device.create_buffer(8, label=3), "label is text, not 3"),
        (lambda: device.create_texture(4, 4, "r32float", label=b"x"), "label is text"),
        (lambda: device.create_texture(4, 4, 7), "texture format 7 is not known"),
        (lambda: device.create_texture(4, 4, TextureFormat("r32float", 2)), "not what WebGPU calls r32float"),
        (lambda: device.budget.reserve(4, kind=["buffer"]), "kind is 'buffer' or 'texture', not"),
        (lambda: device.budget.on_watermark("half", print), "a fraction of the limit"),
        (lambda: device.budget.on_watermark(0.5, 3), "callback is a function, not 3"),
        (lambda: device.budget.add_reclaimer(None), "a reclaimer is a function, not None"),
        (lambda: device.lanes["upload"].timeline.point(9).on_done(3), "callback is a function"),
        (lambda: forge3d.wait_all(device.lanes["upload"].timeline.point(0)), r"wait_all takes is a sequence"),
        (lambda: forge3d.wait_any([3]), "wait_any takes points"),
        (
            lambda: device.submit(device.command_list(), after=device.lanes["upload"].timeline.point(0)),
            "after=",
        ),
        (lambda: device.command_list(label=b"x"), "label is text"),
        (lambda: device.adopt(np.zeros(4), label=b"x"), "label is text"),
    ):
        with pytest.raises(ForgeError, match=says):
            call()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("function", [Unhashable(), RaisingHash()])
def test_a_callable_that_does_not_hash_is_a_kernel(device: AssembledDevice, function: Any) -> None:
    source = KernelSource("k", {"host": function}, [Binding("x", "write")])
    other = KernelSource("k", {"host": type(function)()}, [Binding("x", "write")])
    kernel = device.create_kernel(source)
    assert device.create_kernel(source) is kernel
    assert device.create_kernel(other) is not kernel
    with device.create_buffer(4) as buffer, device.readback_pool() as pool:
        device.submit(device.command_list().dispatch(kernel, [buffer], threads=1))
        assert pool.read(buffer).wait(PATIENCE).tolist() == [5] * 4


def test_a_config_takes_what_means_the_same() -> None:
    config = AsyncReadbackConfig(double_buffered=np.True_, max_pending_ops=np.uint8(3), buffer_size="4 KiB")  # type: ignore[arg-type]
    assert config == AsyncReadbackConfig(True, True, 3, "wait", 4096)
    assert Binding("x", dtype=np.float32).dtype == "f4"  # type: ignore[arg-type]
    assert KernelSource("k", SOURCES, workgroup=8).workgroup == (8, 1, 1)  # type: ignore[arg-type]


def test_floats_of_another_size_than_the_kernel_reads(device: AssembledDevice) -> None:
    source = {"host": lambda _threads, x: None}
    reads, writes, words, doubles = (
        device.create_kernel(KernelSource(name, source, [Binding("x", access, dtype)]))
        for name, access, dtype in (
            ("reads", "read", "f4"),
            ("writes", "write", "f4"),
            ("words", "read", "u4"),
            ("doubles", "readwrite", "f8"),
        )
    )
    buffer, ring = device.create_buffer(400), device.staging_ring()

    def dispatch(kernel: Any) -> Any:
        return device.command_list().dispatch(kernel, [buffer], threads=1)

    for data in (np.arange(50.0), np.zeros(50, "f2"), np.zeros(50, ">f4")):
        ring.upload(data, buffer)
        with pytest.raises(forge3d.KernelError, match=f"as float32, .* is {data.dtype}; upload"):
            dispatch(reads)
        for kernel in (writes, words):
            dispatch(kernel)
    ring.upload(np.arange(50.0), buffer)
    dispatch(doubles)
    dispatch(doubles).dispatch(reads, [buffer], threads=1)  # what the list wrote before is its own business
    for data in (np.zeros(50, "f4"), np.zeros(50, "i8"), np.arange(50.0).view("u1")):
        ring.upload(data, buffer)
        dispatch(reads)
    ring.upload(np.arange(50.0), buffer)
    device.submit(device.command_list().fill(buffer))
    dispatch(reads)  # what was uploaded is gone
