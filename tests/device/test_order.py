"""Submissions that touch the same memory are ordered, without a single ``after=``."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import ForeignObject, UsageError
from forge3d_core.protocols import Binding, KernelSource


def contents(buffer: Any) -> Any:
    return np.asarray(buffer.native).tolist()


@pytest.mark.parametrize("held", ["upload", "compute", "download"])
@pytest.mark.parametrize("behind", ["upload", "compute", "download"])
def test_writes_of_two_lanes_keep_their_order(device: AssembledDevice, held: str, behind: str) -> None:
    buffer = device.create_buffer(4)
    with device.native.hold(held):
        first = device.submit(device.command_list().fill(buffer, 1), lane=held)
        second = device.submit(device.command_list().fill(buffer, 2), lane=behind)
        assert not first.done
        assert not second.done
    second.wait(20)
    assert first.done
    assert contents(buffer) == [2] * 4


def test_a_read_waits_for_the_write_before_it(device: AssembledDevice) -> None:
    source, target = device.create_buffer(4), device.create_buffer(4)
    with device.native.hold("upload"):
        device.submit(device.command_list().fill(source, 3), lane="upload")
        copied = device.submit(device.command_list().copy(source, target))
        assert not copied.done
    copied.wait(20)
    assert contents(target) == [3] * 4


def test_a_write_waits_for_every_read_before_it(device: AssembledDevice) -> None:
    source = device.create_buffer(4)
    targets = [device.create_buffer(4) for _ in range(2)]
    device.submit(device.command_list().fill(source, 3)).wait(20)
    with device.native.hold("upload"), device.native.hold("download"):
        for lane, target in zip(("upload", "download"), targets, strict=True):
            device.submit(device.command_list().copy(source, target), lane=lane)
        written = device.submit(device.command_list().fill(source, 4))
        assert not written.done
    written.wait(20)
    assert [contents(target) for target in targets] == [[3] * 4] * 2


def test_reads_do_not_wait_for_each_other_nor_for_other_memory(device: AssembledDevice) -> None:
    source, first, second, other = (device.create_buffer(4) for _ in range(4))
    device.submit(device.command_list().fill(source, 3)).wait(20)
    with device.native.hold("upload"):
        stuck = device.submit(device.command_list().copy(source, first), lane="upload")
        device.submit(device.command_list().copy(source, second)).wait(20)
        device.submit(device.command_list().fill(other, 5)).wait(20)
        assert not stuck.done
    assert contents(second) == [3] * 4


def test_what_a_kernel_says_it_reads_is_only_read(device: AssembledDevice) -> None:
    def touch(_threads: object, source: Any, target: Any) -> None:
        target[:] = source

    kernel = device.create_kernel(
        KernelSource(
            "touch", {"host": touch}, bindings=(Binding("source", "read"), Binding("target", "write"))
        )
    )
    source, first, second = (device.create_buffer(4) for _ in range(3))
    with device.native.hold("upload"):
        stuck = device.submit(
            device.command_list().dispatch(kernel, [source, first], threads=1), lane="upload"
        )
        device.submit(device.command_list().dispatch(kernel, [source, second], threads=1)).wait(20)
        overwrites = device.submit(device.command_list().fill(source, 1))
        assert not overwrites.done
        assert not stuck.done
    overwrites.wait(20)
    assert contents(first) == [0] * 4


def test_an_explicit_after_adds_to_the_order(device: AssembledDevice) -> None:
    one, other = device.create_buffer(4), device.create_buffer(4)
    with device.native.hold("upload"):
        first = device.submit(device.command_list().fill(one, 1), lane="upload")
        free = device.submit(device.command_list().fill(other, 1))
        free.wait(20)
        second = device.submit(device.command_list().fill(other, 2), after=iter([first, free]))
        assert not second.done
    second.wait(20)


def test_points_that_the_device_cannot_wait_for(
    device: AssembledDevice, open_device: Callable[..., AssembledDevice]
) -> None:
    commands = device.command_list()
    foreign = open_device().lanes["upload"].timeline.point(0)
    with pytest.raises(ForeignObject, match="another device"):
        device.submit(commands, after=[foreign])
    with pytest.raises(UsageError, match="not submitted yet"):
        device.submit(commands, after=[device.lanes["upload"].timeline.point(1)])
    with pytest.raises(UsageError, match=r"after=\[point\]"):
        device.submit(commands, after=device.lanes["upload"].timeline.point(0))  # type: ignore[arg-type]
    device.submit(commands, after=[device.lanes["upload"].timeline.point(0)]).wait(20)


@pytest.mark.parametrize("seed", range(4))
def test_the_answer_is_the_same_under_an_adversary(
    open_device: Callable[..., AssembledDevice], seed: int
) -> None:
    device = open_device(f"?seed={seed}&chaos=1")
    draw = np.random.default_rng(seed)
    buffers = [device.create_buffer(64) for _ in range(3)]
    model = [np.zeros(64, np.uint8) for _ in buffers]
    reads: list[tuple[Any, Any]] = []
    with (
        device.staging_ring(ring_count=2, buffer_size=64) as ring,
        device.readback_pool(max_pending_ops=3) as pool,
    ):
        for _ in range(60):
            a, b = draw.permutation(3)[:2]
            lane = str(draw.choice(["upload", "compute", "download"]))
            match int(draw.integers(0, 4)):
                case 0:
                    value = int(draw.integers(0, 256))
                    device.submit(device.command_list().fill(buffers[a], value, nbytes=40), lane=lane)
                    model[a][:40] = value
                case 1:
                    device.submit(device.command_list().copy(buffers[a], buffers[b], 50), lane=lane)
                    model[b][:50] = model[a][:50]
                case 2:
                    data = draw.integers(0, 256, 64, dtype=np.uint8)
                    ring.upload(data, buffers[a])
                    model[a][:] = data
                case _:
                    reads.append((pool.read(buffers[a]), model[a].copy()))
        for handle, expected in reads:
            assert (handle.wait(20) == expected).all(), f"seed {seed}"


def test_memory_adopted_twice_is_one_memory(device: AssembledDevice) -> None:
    native = np.zeros(4, np.uint8)
    one, same = device.adopt(native), device.adopt(native.view(np.int8))
    target = device.create_buffer(4)
    with device.native.hold("upload"):
        device.submit(device.command_list().fill(one, 7), lane="upload")
        copied = device.submit(device.command_list().copy(same, target))
        assert not copied.done
    copied.wait(20)
    assert contents(target) == [7] * 4
    one.close()
    device.submit(device.command_list().fill(same, 8)).wait(20)
    assert native.tolist() == [8] * 4


def test_memory_adopted_again_comes_behind_what_is_in_flight(device: AssembledDevice) -> None:
    native, target = np.zeros(4, np.uint8), device.create_buffer(4)
    with device.native.hold("upload"):
        device.submit(device.command_list().fill(device.adopt(native), 7), lane="upload")
        gc.collect()
        device.allocator.sweep()
        copied = device.submit(device.command_list().copy(device.adopt(native), target))
        assert not copied.done
    copied.wait(20)
    assert contents(target) == [7] * 4


def test_a_part_of_adopted_memory_is_memory_of_its_own(device: AssembledDevice) -> None:
    native = np.zeros(8, np.uint8)
    whole, part, end = device.adopt(native), device.adopt(native[:4]), device.adopt(native[4:])
    assert (whole.nbytes, part.nbytes, end.nbytes) == (8, 4, 4)
    for buffer, value in ((whole, 1), (part, 2), (end, 3)):
        device.submit(device.command_list().fill(buffer, value)).wait(20)
    assert native.tolist() == [2] * 4 + [3] * 4


def test_adopted_memory_is_its_owners_alone_once_the_device_is_done(device: AssembledDevice) -> None:
    native = np.zeros(4, np.uint8)
    alive = weakref.ref(native)
    for _ in range(2):
        device.submit(device.command_list().fill(device.adopt(native), 7))
    device.wait_idle(20)
    del native
    device.allocator.sweep()
    assert alive() is None
    assert not device.allocator._adopted
