"""An interrupt in the middle of a submission: the block it named is whole again once that has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from forge3d_core.driver import Download, Fill, Upload
from forge3d_core.errors import OutOfDeviceMemory
from forge3d_wgpu import lanes, transfers


class Interrupt(BaseException):
    """What a signal's handler may raise anywhere; a KeyboardInterrupt would end the tests where one fails."""


def before(_call_all: Callable[[Any], None], _steps: Iterable[Any]) -> None:
    raise Interrupt


def behind(call_all: Callable[[Any], None], steps: Iterable[Any]) -> None:
    call_all(steps)
    raise Interrupt


@pytest.mark.parametrize("when", [before, behind], ids=["before", "behind"])
def test_a_block_of_an_interrupted_submission_serves_again(
    rig: Any, monkeypatch: pytest.MonkeyPatch, when: Callable[..., None]
) -> None:
    target, block = rig.buffer(4096), rig.block(np.full(4096, 1, np.uint8))
    real = lanes.call_all
    with monkeypatch.context() as patched:
        patched.setattr(lanes, "call_all", lambda steps: when(real, steps))
        with pytest.raises(Interrupt):
            rig.submit(Upload(block, 0, target, 0, 4096))
    for value in (2, 3):  # the view waits for what may still run, and is never memory that has gone
        block.view()[:] = value
        rig.run(Upload(block, 0, target, 0, 4096))
        assert (rig.read(target) == value).all()


@pytest.mark.parametrize("when", [before, behind], ids=["before", "behind"])
def test_a_block_of_an_interrupted_submission_may_be_submitted_without_a_look(
    rig: Any, monkeypatch: pytest.MonkeyPatch, when: Callable[..., None]
) -> None:
    source, block = rig.buffer(64), rig.driver.allocate_block(64, "readback")
    rig.run(Fill(source, 0, 64, 1), Download(source, 0, block, 0, 64))
    real = lanes.call_all
    with monkeypatch.context() as patched:
        patched.setattr(lanes, "call_all", lambda steps: when(real, steps))
        with pytest.raises(Interrupt):
            rig.submit(Fill(source, 0, 64, 2), Download(source, 0, block, 0, 64))
    rig.run(Fill(source, 0, 64, 3), Download(source, 0, block, 0, 64))
    assert block.view().tolist() == [3] * 64


def test_a_view_behind_a_refused_submission_is_of_the_newest_mapping(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, block = rig.buffer(64), rig.driver.allocate_block(64, "readback")
    rig.run(Fill(source, 0, 64, 1), Download(source, 0, block, 0, 64))
    with monkeypatch.context() as patched:
        patched.setattr(lanes, "call_all", lambda steps: before(lanes.call_all, steps))
        with pytest.raises(Interrupt):
            rig.submit(Download(source, 0, block, 0, 64))
    assert block.view().tolist() == [1] * 64


class InterruptedDeque(deque[Any]):
    """Ctrl-C as the call returns."""

    def append(self, one: Any) -> None:
        super().append(one)
        raise Interrupt


def test_a_block_of_an_interrupted_submission_in_the_feeders_queue_is_waited_for(rig: Any) -> None:
    queue = rig.driver._lanes
    queue.one_at_a_time, queue._queued = True, InterruptedDeque()  # as on an adapter that is a CPU
    work, target, block = rig.long_work(), rig.buffer(64), rig.block(np.full(64, 1, np.uint8))
    running = rig.submit(work)
    with pytest.raises(Interrupt):
        rig.submit(Upload(block, 0, target, 0, 64))
    block.view()[:] = 2
    assert rig.driver.query(running)
    assert (rig.read(target) == 1).all()


@pytest.mark.parametrize("error", [Interrupt(), OutOfDeviceMemory("none left")], ids=["interrupt", "refusal"])
@pytest.mark.parametrize("made", ["create_buffer", "compile_source"])
def test_what_ragged_ends_need_is_made_again_after_a_failure(
    rig: Any, monkeypatch: pytest.MonkeyPatch, made: str, error: BaseException
) -> None:
    target, block = rig.buffer(64), rig.block(np.full(64, 7, np.uint8))

    def fail(*_arguments: Any) -> Any:
        raise error

    for command in (Upload(block, 0, target, 3, 2), Fill(target, 0, 2, 7)):
        with monkeypatch.context() as patched:
            patched.setattr(transfers, made, fail)
            if made == "create_buffer" and isinstance(command, Fill):
                continue  # which needs no memory
            with pytest.raises(type(error)):
                rig.submit(command)
    rig.run(Upload(block, 0, target, 3, 2), Fill(target, 0, 2, 7))
    assert rig.read(target)[:8].tolist() == [7, 7, 0, 7, 7, 0, 0, 0]
