"""Operations that depend on each other, and what is told of their ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import Closed, FenceTimeout, KernelError, StateError, UsageError
from forge3d_core.pipeline import AsyncCoordinator, BufferState, Completion, TripleBuffer
from forge3d_core.protocols import Kernel

WORDS = 64


@pytest.fixture
def coordinator(device: AssembledDevice) -> Any:
    with AsyncCoordinator(device) as made:
        yield made


def words(value: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.full(WORDS, value, np.uint32)


def test_fork_and_join(
    device: AssembledDevice, coordinator: AsyncCoordinator, double: Kernel, accumulate: Kernel
) -> None:
    source, left, right, total = (device.create_buffer(4 * WORDS) for _ in range(4))
    result = words(0)
    upload = coordinator.queue_upload(words(3), source)
    fork = [
        coordinator.queue_compute(double, [upload], buffers=[source, target], threads=WORDS)
        for target in (left, right)
    ]
    join = [
        coordinator.queue_compute(accumulate, fork, buffers=[part, total], threads=WORDS)
        for part in (left, right)
    ]
    download = coordinator.queue_download(total, result, join)
    coordinator.wait(download)
    assert (result == 12).all()
    assert {c.op_id: c.op_type for c in coordinator.poll()} == {
        1: "upload",
        2: "compute",
        3: "compute",
        4: "compute",
        5: "compute",
        6: "download",
    }
    assert coordinator.poll() == []
    assert len(coordinator) == 0


def test_dependencies_hold_where_no_memory_is_shared(
    device: AssembledDevice, coordinator: AsyncCoordinator
) -> None:
    one, other = device.create_buffer(64), device.create_buffer(64)
    with device.driver.hold("upload"):
        first = coordinator.queue_upload(np.ones(64, np.uint8), one)
        second = coordinator.queue_compute(device.command_list().fill(other, 1), [first])
        third = coordinator.queue_compute(device.command_list().fill(other, 2))
        out = np.zeros(64, np.uint8)
        fourth = coordinator.queue_download(other, out, [third])
        for operation in (first, second, third, fourth):
            with pytest.raises(FenceTimeout):
                coordinator.wait(operation, 0.01)
        assert coordinator.poll() == []
    coordinator.synchronize_all()
    assert (out == 2).all()


def test_an_upload_waits_for_what_it_depends_on(
    device: AssembledDevice, coordinator: AsyncCoordinator
) -> None:
    one, other = device.create_buffer(64), device.create_buffer(64)
    with device.driver.hold("compute"):
        first = coordinator.queue_compute(device.command_list().fill(one, 1))
        second = coordinator.queue_upload(np.ones(64, np.uint8), other, [first])
        with pytest.raises(FenceTimeout):
            coordinator.wait(second, 0.01)
    coordinator.wait(second)


@pytest.mark.parametrize("wrong", [0, -1, 2, 10**9, "1", None, 1.0, True])
def test_an_unknown_dependency_is_refused_when_queued(
    device: AssembledDevice, coordinator: AsyncCoordinator, wrong: Any
) -> None:
    buffer = device.create_buffer(64)
    assert coordinator.queue_compute(device.command_list().fill(buffer)) == 1
    calls: list[Callable[[], object]] = [
        lambda: coordinator.queue_upload(np.zeros(64, np.uint8), buffer, [wrong]),
        lambda: coordinator.queue_compute(device.command_list(), [1, wrong]),
        lambda: coordinator.queue_download(buffer, np.zeros(64, np.uint8), [wrong]),
        lambda: coordinator.wait(wrong),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="no operation"):
            call()
    coordinator.synchronize_all()
    assert [completion.op_id for completion in coordinator.poll()] == [1]


def test_an_operation_that_has_ended_may_still_be_depended_on(
    device: AssembledDevice, coordinator: AsyncCoordinator
) -> None:
    first = coordinator.queue_compute(device.command_list())
    coordinator.wait(first)
    coordinator.poll()
    coordinator.wait(coordinator.queue_compute(device.command_list(), [first]))


def test_a_failure_fails_what_depends_on_it_and_no_other(
    device: AssembledDevice, coordinator: AsyncCoordinator, broken: Kernel
) -> None:
    bad, good = device.create_buffer(64), device.create_buffer(64)
    out = np.zeros(64, np.uint8)
    upload = coordinator.queue_upload(np.full(64, 7, np.uint8), good)
    before = coordinator.queue_download(good, out)
    failing = coordinator.queue_compute(broken, buffers=[bad], threads=16)
    with pytest.raises(KernelError):
        coordinator.wait(failing)
    with pytest.raises(KernelError):
        coordinator.queue_download(bad, np.zeros(64, np.uint8), [failing])
    other = coordinator.queue_upload(np.zeros(64, np.uint8), good)
    for operation in (upload, before, other):
        coordinator.wait(operation)
    assert (out == 7).all()
    ends = {completion.op_id: completion.error for completion in coordinator.poll()}
    assert {number for number, error in ends.items() if error is not None} == {failing}


def test_a_refused_call_queues_nothing(
    device: AssembledDevice, coordinator: AsyncCoordinator, add: Kernel
) -> None:
    buffer = device.create_buffer(64)
    calls: list[Callable[[], object]] = [
        lambda: coordinator.queue_upload(np.zeros(65, np.uint8), buffer),
        lambda: coordinator.queue_compute(add, buffers=[buffer], params=[1]),
        lambda: coordinator.queue_compute(add, buffers=[], params=[1], threads=1),
        lambda: coordinator.queue_compute(add),  # type: ignore[arg-type]
        lambda: coordinator.queue_download(buffer, np.zeros(65, np.uint8)),
    ]
    for call in calls:
        with pytest.raises((UsageError, KernelError)):
            call()
    assert coordinator.queue_compute(device.command_list()) == 1


def test_a_triple_buffer_stands_for_the_one_whose_turn_it_is(
    device: AssembledDevice, coordinator: AsyncCoordinator, add: Kernel
) -> None:
    results = [words(0) for _ in range(7)]
    with TripleBuffer(device, 4 * WORDS) as triple:
        for number, out in enumerate(results):
            upload = coordinator.queue_upload(words(number), triple)
            compute = coordinator.queue_compute(add, [upload], buffers=[triple], params=[100], threads=WORDS)
            coordinator.queue_download(triple, out, [compute])
        coordinator.synchronize_all()
        assert [int(out[0]) for out in results] == [100 + number for number in range(7)]
        assert set(triple.get_states()) == {BufferState.FREE}


def test_the_buffer_of_what_was_not_submitted_comes_back(
    device: AssembledDevice, coordinator: AsyncCoordinator, add: Kernel
) -> None:
    with TripleBuffer(device, 64, count=1) as triple:
        with pytest.raises(UsageError):
            coordinator.queue_upload(np.zeros(65, np.uint8), triple)
        with pytest.raises(StateError, match="ready to be processed"):
            coordinator.queue_compute(add, buffers=[triple], params=[1], threads=1)
        coordinator.queue_upload(np.zeros(64, np.uint8), triple)
        with pytest.raises(KernelError):
            coordinator.queue_compute(add, buffers=[triple], params=["x"], threads=1)  # type: ignore[list-item]
        coordinator.synchronize_all()
        assert triple.get_states() == (BufferState.FREE,)
        with pytest.raises(StateError, match="ready to be downloaded"):
            coordinator.queue_download(triple, np.zeros(64, np.uint8))


def test_ends_that_are_not_polled_are_bounded(
    device: AssembledDevice, coordinator: AsyncCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator._book, "most_kept", 10)
    for _ in range(1000):
        coordinator.wait(coordinator.queue_compute(device.command_list()))
    assert [completion.op_id for completion in coordinator.poll()] == list(range(991, 1001))
    assert coordinator._book.unpolled == 990


def test_an_end_says_what_it_is() -> None:
    assert repr(Completion(3, "upload")) == "<upload 3, done>"
    assert repr(Completion(4, "compute", KernelError("x"))) == "<compute 4, failed: KernelError>"


def test_closed(device: AssembledDevice) -> None:
    coordinator = AsyncCoordinator(device)
    coordinator.queue_compute(device.command_list())
    coordinator.close()
    coordinator.close()
    with pytest.raises(Closed):
        coordinator.queue_compute(device.command_list())
    coordinator.synchronize_all()
    assert len(coordinator.poll()) == 1


def test_it_costs_at_most_twenty_calls_more(device: AssembledDevice, coordinator: AsyncCoordinator) -> None:
    buffer = device.create_buffer(64)
    first = coordinator.queue_compute(device.command_list())
    coordinator.wait(first)

    def count(call: Callable[[], object]) -> int:
        calls = 0

        def note(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(note)
        try:
            call()
        finally:
            sys.setprofile(None)
        return calls

    raw = [device.command_list().fill(buffer) for _ in range(8)]
    ours = [device.command_list().fill(buffer) for _ in range(8)]
    with device.driver.hold("compute"):
        last = first
        for one, other in zip(raw, ours, strict=True):
            plain = count(lambda one=one: device.submit(one, after=()))
            last_known = last

            def queue(other: Any = other, last: int = last_known) -> int:
                return coordinator.queue_compute(other, [last])

            more = count(queue)
            last = len(coordinator) + 1
            assert more - plain <= 20
