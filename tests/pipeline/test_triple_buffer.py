"""Free → Uploading → Processing → Downloading → Free, in no other way and atomically."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forge3d_core
from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetError, Closed, UsageError
from forge3d_core.pipeline import BufferState, TripleBuffer, TripleSlot

FREE, UPLOADING, PROCESSING, DOWNLOADING = BufferState


def test_a_buffer_goes_round(device: AssembledDevice) -> None:
    with TripleBuffer(device, "1 KiB") as triple:
        assert triple.size() == 1024
        assert triple.get_states() == (FREE, FREE, FREE)
        done = device.submit(device.command_list())
        done.wait()
        slot = triple.get_upload_buffer()
        assert slot is not None
        assert triple.get_states() == (UPLOADING, FREE, FREE)
        assert triple.get_process_buffer() is None  # nothing was submitted yet
        slot.submitted(done)
        assert triple.get_process_buffer() is slot
        assert triple.get_download_buffer() is None
        slot.submitted(done)
        assert triple.get_download_buffer() is slot
        assert triple.advance() is None
        slot.submitted(done)
        assert triple.get_states() == (DOWNLOADING, FREE, FREE)
        assert triple.advance() is slot
        assert triple.get_states() == (FREE, FREE, FREE)


def test_a_buffer_is_free_when_the_device_is_done_with_it(device: AssembledDevice) -> None:
    with TripleBuffer(device, 64, count=1) as triple:
        with device.driver.hold("download"):
            slot = triple.get_upload_buffer()
            assert slot is not None
            done = device.submit(device.command_list())
            slot.submitted(done)
            triple.get_process_buffer()
            slot.submitted(done)
            triple.get_download_buffer()
            slot.submitted(device.submit(device.command_list(), lane="download"))
            triple.advance()
            assert triple.get_states() == (DOWNLOADING,)
            assert triple.get_upload_buffer() is None
            assert triple.get_upload_buffer(timeout=0.01) is None
        assert triple.get_upload_buffer(timeout=None) is slot


def test_what_failed_gives_its_buffer_up(device: AssembledDevice) -> None:
    with TripleBuffer(device, 64, count=1) as triple:
        for take in (triple.get_upload_buffer, triple.get_process_buffer, triple.get_download_buffer):
            slot = triple.get_upload_buffer()
            assert slot is not None
            while take != triple.get_upload_buffer and slot.state is not DOWNLOADING:
                slot.submitted(device.submit(device.command_list()))
                if take() is slot:
                    break
                triple.get_process_buffer()
            device.wait_idle()
            triple.abandon(slot)
            triple.abandon(slot)
            assert triple.get_states() == (FREE,)


def test_closed_and_wrong(device: AssembledDevice) -> None:
    triple = TripleBuffer(device, 64)
    held = device.budget.metrics().buffer_bytes
    triple.close()
    triple.close()
    assert device.budget.metrics().buffer_bytes < held
    for call in (triple.get_upload_buffer, triple.get_process_buffer, triple.advance):
        with pytest.raises(Closed):
            call()
    with pytest.raises(UsageError):
        TripleBuffer(device, 64, count=0)


def test_what_cannot_be_had_leaves_nothing(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device("?oom_at=2")
    before = device.budget.metrics().buffer_bytes
    with pytest.raises(BudgetError):
        TripleBuffer(device, 2048)
    assert device.budget.metrics().buffer_bytes == before


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 4),
    steps=st.lists(st.sampled_from(["upload", "process", "download", "advance"]), max_size=40),
)
def test_only_the_legal_transitions(count: int, steps: list[str]) -> None:
    """Against a model: three queues in the order of filling."""
    free, up, work, down = count, 0, 0, 0
    with forge3d_core.open_device("host") as device, TripleBuffer(device, 16, count=count) as triple:
        done = device.submit(device.command_list())
        done.wait()
        for step in steps:
            if step == "upload":
                slot, wanted = triple.get_upload_buffer(), free > 0
                free, up = free - wanted, up + wanted
            elif step == "process":
                slot, wanted = triple.get_process_buffer(), up > 0
                up, work = up - wanted, work + wanted
            elif step == "download":
                slot, wanted = triple.get_download_buffer(), work > 0
                work, down = work - wanted, down + wanted
            else:
                slot, wanted = triple.advance(), down > 0
                down, free = down - wanted, free + wanted
            assert (slot is not None) == wanted
            if slot is not None and step != "advance":
                slot.submitted(done)
            states = Counter(triple.get_states())
            assert [states[s] for s in BufferState] == [free, up, work, down]


def test_threads_never_share_a_buffer(
    device: AssembledDevice, background: Callable[..., Future[Any]], patience: float
) -> None:
    rounds, threads = 60, 3
    with TripleBuffer(device, 64, count=4) as triple:
        done = device.submit(device.command_list())
        done.wait()
        tickets, given_up = list(range(rounds * threads)), list(range(rounds * threads))
        using = [threading.Lock() for _ in triple.slots]

        def use(slot: TripleSlot) -> None:
            assert using[slot.index].acquire(blocking=False)
            using[slot.index].release()
            slot.submitted(done)

        def work() -> None:
            while given_up:
                with contextlib.suppress(IndexError):  # another thread took the last
                    ticket = tickets.pop()
                    if (slot := triple.get_upload_buffer()) is not None:
                        use(slot)
                    else:
                        tickets.append(ticket)
                for take in (triple.get_process_buffer, triple.get_download_buffer):
                    if (slot := take()) is not None:
                        use(slot)
                if triple.advance() is not None:
                    given_up.pop()

        running = [background(work) for _ in range(threads)]
        for future in running:
            future.result(patience)
