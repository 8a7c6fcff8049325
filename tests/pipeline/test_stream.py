"""Frames that overlap: results in order, memory bounded, errors with the number of their frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import KernelError, UsageError
from forge3d_core.pipeline import stream
from forge3d_core.protocols import Buffer, CommandList, Kernel, StreamingDevice

WORDS = 64


def frames(count: int) -> Iterator[NDArray[np.uint32]]:
    return (np.full(WORDS, number, np.uint32) for number in range(count))


def test_results_come_in_the_order_of_their_frames(device: AssembledDevice, double: Kernel) -> None:
    done: list[int] = []
    results = list(stream(device, frames(50), double, progress=done.append))
    assert [int(result[0]) for result in results] == [2 * number for number in range(50)]
    assert all((result == result[0]).all() for result in results)
    assert done == list(range(1, 51))


def test_a_device_streams(device: AssembledDevice, double: Kernel) -> None:
    assert isinstance(device, StreamingDevice)
    with device.stream(frames(9), double, depth=2) as results:
        assert [int(result[0]) for result in results] == [2 * number for number in range(9)]


def test_a_kernel_of_one_buffer_works_in_place(device: AssembledDevice, add: Kernel) -> None:
    results = list(stream(device, frames(10), add, params=[5], threads=WORDS))
    assert [int(result[0]) for result in results] == [number + 5 for number in range(10)]


def test_a_function_records_what_it_likes(device: AssembledDevice) -> None:
    def first_bytes(commands: CommandList, source: Buffer, target: Buffer, index: int) -> None:
        commands.fill(target, index).copy(source, target, 4)

    results = list(stream(device, frames(5), first_bytes, result=("u4", (2,))))
    assert [result.tolist() for result in results] == [[n, n * 0x01010101] for n in range(5)]


def test_frames_are_taken_as_there_is_room(device: AssembledDevice, double: Kernel) -> None:
    taken = 0

    def counted() -> Iterator[NDArray[np.uint32]]:
        nonlocal taken
        for frame in frames(100):
            taken += 1
            yield frame

    with stream(device, counted(), double, depth=4) as results:
        for number, _ in zip(range(20), results, strict=False):
            assert taken <= number + 1 + 4
        held = device.budget.metrics()
        for _ in zip(range(20), results, strict=False):
            pass
        now = device.budget.metrics()
        assert (now.device_local_bytes, now.host_visible_bytes) == (
            held.device_local_bytes,
            held.host_visible_bytes,
        )
    device.wait_idle()
    assert device.budget.metrics().device_local_bytes == 0


def test_they_overlap(device: AssembledDevice, double: Kernel) -> None:
    with stream(device, frames(9), double) as results, device.driver.hold("compute"):
        results._fill()
        device.lanes["upload"].timeline.point(3).wait(20)  # three frames are up, none is worked on
        assert device.lanes["compute"].timeline.completed == 0
    assert next(results, None) is None


def test_results_go_where_they_are_wanted(device: AssembledDevice, double: Kernel) -> None:
    whole = np.zeros((7, WORDS), np.uint32)
    results = list(stream(device, frames(7), double, into=whole))
    assert (whole[:, 0] == 2 * np.arange(7)).all()
    assert all(np.shares_memory(result, row) for result, row in zip(results, whole, strict=True))
    kept: dict[int, NDArray[np.uint32]] = {}

    def place(index: int) -> NDArray[np.uint32]:
        return kept.setdefault(index, np.zeros(WORDS, np.uint32))

    for _ in stream(device, frames(3), double, into=place):
        pass
    assert [int(kept[index][0]) for index in range(3)] == [0, 2, 4]


@pytest.mark.parametrize("bad", [0, 3, 9])
@pytest.mark.parametrize("depth", [1, 3, 20])
def test_an_error_names_its_frame_and_comes_in_its_turn(
    device: AssembledDevice, double: Kernel, bad: int, depth: int
) -> None:
    def some() -> Iterator[NDArray[np.uint32]]:
        for number, frame in enumerate(frames(10)):
            if number == bad:
                raise ArithmeticError("no such frame")
            yield frame

    results, seen = stream(device, some(), double, depth=depth), []
    with pytest.raises(ArithmeticError) as raised:
        seen.extend(int(result[0]) for result in results)
    assert raised.value.frame == bad  # type: ignore[attr-defined]
    assert raised.value.__notes__ == [f"in frame {bad} of the stream"]
    assert next(results, None) is None
    assert device.budget.metrics().device_local_bytes == 0


def test_a_frame_that_fails_on_the_device(device: AssembledDevice, broken: Kernel, double: Kernel) -> None:
    def work(commands: CommandList, source: Buffer, target: Buffer, index: int) -> None:
        commands.dispatch(double, [source, target], threads=WORDS)
        if index == 4:
            commands.dispatch(broken, [target], threads=WORDS)

    seen = []
    with pytest.raises(KernelError) as raised:
        seen.extend(int(result[0]) for result in stream(device, frames(10), work))
    assert seen == [0, 2, 4, 6]
    assert raised.value.frame == 4  # type: ignore[attr-defined]


def test_wrong_use(device: AssembledDevice, double: Kernel, accumulate: Kernel) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: stream(device, frames(1), 3),  # type: ignore[arg-type]
        lambda: stream(device, frames(1), lambda *_: None, threads=3),
        lambda: stream(device, frames(1), double, depth=0),
        lambda: next(stream(device, [np.zeros(0)], double)),
        lambda: list(stream(device, [np.zeros(64, "u4"), np.zeros(65, "u4")], double)),
        lambda: list(stream(device, frames(2), double, into=np.zeros((2, 3), "u4"))),
    ]
    for call in calls:
        with pytest.raises(UsageError):
            call()
    assert list(stream(device, [], double)) == []
    device.wait_idle()
    assert device.budget.metrics().device_local_bytes == 0


def test_frames_from_and_to_host_arrays_take_no_block_of_their_size(device: AssembledDevice) -> None:
    nbytes = 8 << 20
    data, *outs = (device.host_array(nbytes, "u1") for _ in range(3))
    data[:] = np.arange(nbytes, dtype=np.uint8)

    def copy(commands: CommandList, source: Buffer, target: Buffer, _index: int) -> None:
        commands.copy(source, target)

    before = device.budget.metrics().host_visible_bytes
    frames = (data for _ in range(4))
    for number, result in enumerate(
        stream(device, frames, copy, depth=2, into=lambda index: outs[index % 2])
    ):
        assert result is outs[number % 2]
        assert (result == data).all()
        staged = device.budget.metrics().host_visible_bytes - before
        assert staged < nbytes, "ring and pool hold as much as a frame"


def test_an_interrupted_stream_loses_no_frame_in_silence(device: AssembledDevice, double: Kernel) -> None:
    def some() -> Iterator[NDArray[np.uint32]]:
        for number, frame in enumerate(frames(10)):
            if number == 5:
                raise KeyboardInterrupt
            yield frame

    results = stream(device, some(), double)
    with pytest.raises(KeyboardInterrupt):
        list(results)
    assert list(results) == []
    device.wait_idle()
    assert device.budget.metrics().device_local_bytes == 0


def test_streams_follow_each_other(device: AssembledDevice, double: Kernel, add: Kernel) -> None:
    first = stream(device, frames(9), double)
    results = stream(device, first, add, params=[1])
    assert [int(result[0]) for result in results] == [2 * number + 1 for number in range(9)]
