"""Submission: tokens tell the truth, nothing waits that should not, a lost device is found."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import numpy as np
import pytest
import wgpu

from forge3d_core.driver import Download, Fill, Upload
from forge3d_core.errors import DeviceLost, DriverError, ForgeError
from forge3d_core.units import MIB
from forge3d_wgpu import lanes as lanes_module
from forge3d_wgpu.errors import NativeErrors
from forge3d_wgpu.lanes import Lanes


def test_a_token_is_done_when_the_work_is_and_the_block_is_back(rig: Any) -> None:
    work = rig.long_work()
    memory, readback = work.buffers[0], rig.driver.allocate_block(256, "readback")
    token = rig.submit(work, Download(memory, 0, readback, 0, 256))
    assert not rig.driver.query(token)
    assert not rig.driver.wait(token, 0.0)
    rig.finish(token)
    assert rig.driver.query(token)
    assert readback.view().any()  # the kernel's numbers, not the zeros from before


def test_submissions_behind_long_work_are_not_early_and_run_in_order(rig: Any) -> None:
    memory = rig.buffer(64)
    work = rig.submit(rig.long_work())
    tokens = [rig.submit(Fill(memory, 0, 64, value), lane="upload") for value in range(1, 20)]
    assert not rig.driver.query(work)
    assert not any(rig.driver.query(token) for token in tokens)
    rig.finish(tokens[-1])
    assert all(rig.driver.query(token) for token in (work, *tokens))
    np.testing.assert_array_equal(rig.read(memory), np.full(64, 19, np.uint8))


def test_work_goes_on_when_nobody_polls(rig: Any) -> None:
    """On adapters that take one submission at a time, the feeder submits what is queued."""
    readback = rig.driver.allocate_block(64, "readback")
    memory = rig.buffer(64)
    rig.submit(rig.long_work())
    last = rig.submit(Fill(memory, 0, 64, 3), Download(memory, 0, readback, 0, 64))
    feeder = rig.driver._lanes._feeder
    if feeder is not None:
        feeder.join()
        assert rig.driver._lanes._feeder is None
    assert last.recording is None  # it has been submitted
    rig.finish(last)
    np.testing.assert_array_equal(readback.view(), np.full(64, 3, np.uint8))


def test_a_block_in_use_again_is_not_taken_for_lost(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads ask for one submission; the block of it serves the next before the slower has looked."""
    block = rig.block(np.ones(64, np.uint8))
    token = rig.submit(Upload(block, 0, rig.buffer(64), 0, 64))
    rig.finish(token)
    token.done = False
    settled = type(token).settled.fget

    def settled_and_then_seen_by_another(submission: Any) -> bool:
        answer = bool(settled(submission))
        submission.done = True
        block.signal.statuses.clear()
        return answer

    token._statuses = [block.signal.statuses]
    monkeypatch.setattr(type(token), "settled", property(settled_and_then_seen_by_another))
    assert rig.driver.query(token)
    monkeypatch.undo()
    block.signal.note()


def test_upload_blocks_serve_again_and_again(rig: Any) -> None:
    memory, block = rig.buffer(4096), rig.block(np.zeros(4096, np.uint8))
    for value in range(1, 30):
        block.view()[:] = value
        rig.run(Upload(block, 0, memory, 0, 4096))
    np.testing.assert_array_equal(rig.read(memory), np.full(4096, 29, np.uint8))


def test_a_readback_view_is_read_only_and_zero_at_first(rig: Any) -> None:
    block = rig.driver.allocate_block(4096, "readback")
    view = block.view()
    assert not view.any()
    assert not view.flags.writeable
    assert view.nbytes == block.nbytes == 4096


def test_a_block_in_flight_cannot_be_viewed(rig: Any) -> None:
    work, block = rig.long_work(), rig.driver.allocate_block(256, "readback")
    token = rig.submit(work, Download(work.buffers[0], 0, block, 0, 256))
    with pytest.raises(ForgeError, match="not mapped"):
        block.view()
    rig.finish(token)
    assert block.view().nbytes == 256


def test_memory_comes_and_goes_on_other_threads_while_the_device_works(rig: Any) -> None:
    token = rig.submit(rig.long_work())
    failures: list[BaseException] = []

    def churn() -> None:
        try:
            for _ in range(50):
                rig.driver.free(rig.driver.allocate_buffer(1000))
                rig.driver.free(rig.driver.allocate_block(1000, "upload"))
                rig.driver.free(rig.driver.allocate_block(1000, "readback"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        rig.submit(Fill(rig.buffer(64), 0, 64, 1))
    for thread in threads:
        thread.join()
    assert not failures
    rig.finish(token)


def test_work_encoded_before_a_loss_never_reaches_the_queue(rig: Any) -> None:
    """wgpu-native ends the process on a submission to a lost device."""
    block, memory = rig.block(np.ones(64, np.uint8)), rig.buffer(64)
    work = rig.submit(rig.long_work())
    waiting = [rig.submit(Upload(block, 0, memory, 0, 64))]
    rig.driver.native.destroy()
    for token in (work, *waiting):
        with pytest.raises(DeviceLost):
            rig.driver.wait(token, 30.0)


def test_a_lost_device_fails_what_is_in_flight_and_what_follows(rig: Any) -> None:
    readback, memory = rig.driver.allocate_block(64, "readback"), rig.buffer(64)
    running = rig.submit(rig.long_work())
    queued = rig.submit(Fill(memory, 0, 64, 1), Download(memory, 0, readback, 0, 64))
    rig.driver.native.destroy()
    for token in (running, queued):
        with pytest.raises(DeviceLost, match="open another"):
            rig.driver.wait(token, 30.0)
    for use in (
        lambda: rig.submit(Fill(memory, 0, 64, 1)),
        lambda: rig.buffer(64),
        lambda: rig.driver.allocate_block(64, "readback"),
        lambda: rig.driver.allocate_block(64, "upload"),
        rig.long_work,
    ):
        with pytest.raises(DeviceLost):
            use()
    rig.close(1.0)


def test_work_that_completed_before_the_loss_stays_complete(rig: Any) -> None:
    token = rig.submit(Fill(rig.buffer(64), 0, 64, 1))
    rig.finish(token)
    rig.driver.native.destroy()
    assert rig.driver.query(token)


def test_a_loss_that_any_call_finds_is_known_before_the_next_submission(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No submission looks by itself, and wgpu-native ends the process on one to a lost device."""
    memory, looks = rig.buffer(64), []

    def look(_device: Any) -> bool:
        looks.append(True)
        return False

    monkeypatch.setattr(lanes_module, "is_alive", look)
    monkeypatch.setattr(rig.driver._lanes, "_checked", float("inf"))  # it is not the time to look
    rig.run(Fill(memory, 0, 64, 1))
    assert not looks
    with pytest.raises(DeviceLost), NativeErrors("allocating elsewhere"):
        raise wgpu.GPUValidationError("Parent device is lost")
    with pytest.raises(DeviceLost):
        rig.submit(Fill(memory, 0, 64, 2))
    assert looks == [True]


def test_many_threads_may_wait_for_one_submission(rig: Any) -> None:
    token = rig.submit(rig.long_work())
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(rig.driver.wait(token, 60.0))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8


def test_a_large_upload_lands_whole(rig: Any) -> None:
    data = np.random.default_rng(5).integers(0, 256, 8 * MIB, dtype=np.uint8)
    memory = rig.buffer(data.nbytes)
    rig.write(memory, data)
    np.testing.assert_array_equal(rig.read(memory), data)


class Interrupt(BaseException):
    """What a signal's handler may raise anywhere; a KeyboardInterrupt would end the tests where one fails."""


@attrs.frozen
class Gone:
    """A native device that was given back: nothing of it is ever called."""

    _internal: None = None


@attrs.define
class InterruptedLock:
    """Ctrl-C on the way out of ``acquire``; behind a lock's own ``__enter__`` none can come."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.lock.acquire(blocking, timeout)
        raise Interrupt

    def locked(self) -> bool:
        return self.lock.locked()

    def release(self) -> None:
        self.lock.release()

    def __enter__(self) -> bool:
        return self.lock.__enter__()

    def __exit__(self, *exc_info: Any) -> None:
        self.lock.__exit__(*exc_info)


def test_an_interrupt_in_a_poll_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = Lanes(Gone(), one_at_a_time=False)
    lanes._native = InterruptedLock()
    lanes.poll()
    assert not lanes._native.locked()

    def interrupt(_lanes: Lanes) -> None:
        raise Interrupt

    monkeypatch.setattr(Lanes, "_poll", interrupt)
    with pytest.raises(Interrupt):
        lanes.poll()
    assert not lanes._native.locked()


def test_a_feeder_that_cannot_start_refuses_and_the_next_one_serves(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes, memory = rig.driver._lanes, rig.buffer(64)
    lanes.one_at_a_time = True  # as on an adapter that is a CPU
    running = rig.submit(rig.long_work())

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def refused() -> None:
        rig.submit(Fill(memory, 0, 64, 1))

    def while_handling() -> None:
        try:
            raise KeyError("the caller's own")
        except KeyError:  # which Python hangs on whatever is raised meanwhile
            refused()

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for submit in (refused, while_handling):
            with pytest.raises(ForgeError, match="nothing was submitted"):
                submit()
    last = rig.submit(Fill(memory, 32, 32, 2))
    for token in (running, last):
        rig.finish(token)
    assert rig.read(memory).tolist() == [0] * 32 + [2] * 32


@pytest.mark.parametrize("call", ["poll", "_launch"])
def test_what_a_feeder_dies_of_fails_what_is_queued(
    rig: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    lanes, memory = rig.driver._lanes, rig.buffer(64)
    lanes.one_at_a_time = True
    rig.submit(rig.long_work())
    real, error = getattr(Lanes, call), LookupError("a slip")

    def broken(self: Lanes, *args: Any) -> Any:
        if self._feeder is threading.current_thread():
            raise error
        return real(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Lanes, call, broken)
        queued = rig.submit(Fill(memory, 0, 64, 1))
        with pytest.raises(DriverError, match="a slip") as caught:
            rig.finish(queued)
        assert caught.value.__cause__ is error
    rig.finish(rig.submit(Fill(memory, 0, 64, 2)))
    assert rig.read(memory).tolist() == [2] * 64


@pytest.mark.parametrize("disguised", [False, True])
def test_a_feeder_whose_start_was_interrupted_feeds_nobody(
    rig: Any, monkeypatch: pytest.MonkeyPatch, disguised: bool
) -> None:
    lanes, memory = rig.driver._lanes, rig.buffer(64)
    lanes.one_at_a_time = True
    running, start, started = rig.submit(rig.long_work()), threading.Thread.start, []

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        started.append(thread)
        try:
            raise Interrupt
        finally:
            if disguised:  # as an interrupt within threading.Condition may be
                raise RuntimeError("release unlocked lock")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Interrupt):
            rig.submit(Fill(memory, 0, 64, 1))
    last = rig.submit(Fill(memory, 32, 32, 2))
    started[0].join(60.0)
    assert not started[0].is_alive()
    for token in (running, last):
        rig.finish(token)
    assert rig.read(memory).tolist() == [0] * 32 + [2] * 32
