"""Copies on several threads: right, and over when they end, however they end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import Closed
from forge3d_core.transfer.copying import PARALLEL_BYTES, HostCopier
from forge3d_core.transfer.moving import MOVER
from forge3d_core.transfer.workers import Crew, Job

PARTS = 4
SIZE = PARTS * PARALLEL_BYTES


@pytest.fixture
def copier() -> HostCopier:
    return HostCopier(threads=PARTS, crew=Crew(threads=PARTS - 1, idle=0.01))


@pytest.fixture
def source() -> Any:
    return np.random.default_rng(8).integers(0, 256, SIZE, dtype=np.uint8)


def copying(monkeypatch: pytest.MonkeyPatch, on_this: Any = None, on_others: Any = None) -> None:
    """Have something happen before each part that is copied, on this thread or on another."""
    real, here = MOVER.copy, threading.current_thread()

    def copyto(target: Any, part: Any) -> None:
        happens = on_this if threading.current_thread() is here else on_others
        if happens is not None:
            happens()
        real(target, part)

    monkeypatch.setattr(MOVER, "copy", copyto)


@pytest.mark.parametrize("shape", [(SIZE,), (5, SIZE // 5), (SIZE + 3,), (3, 10), ()])
def test_copies_of_any_shape(copier: HostCopier, shape: tuple[int, ...]) -> None:
    source = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    target = np.zeros_like(source)
    copier.copy(target, source)
    assert (target == source).all()


def test_rows_that_lie_apart(copier: HostCopier, source: Any) -> None:
    apart = np.zeros((1024, 2 * SIZE // 1024), np.uint8)[:, : SIZE // 1024]
    copier.copy(apart, source.reshape(apart.shape))
    assert (apart.reshape(-1) == source).all()


def test_a_shut_gate_lets_no_copy_in(copier: HostCopier, source: Any) -> None:
    target = np.zeros_like(source)
    copier.gate.shut()
    with pytest.raises(Closed):
        copier.copy(target, source)


def test_the_other_threads_take_part(
    copier: HostCopier, source: Any, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    met = threading.Barrier(PARTS)  # each thread is inside a part of its own
    copying(monkeypatch, lambda: met.wait(patience), lambda: met.wait(patience))
    target = np.zeros_like(source)
    copier.copy(target, source)
    assert (target == source).all()


@pytest.mark.parametrize("moment", ["ending", "calling"])
def test_an_interrupt_waits_for_the_other_threads(
    copier: HostCopier, source: Any, monkeypatch: pytest.MonkeyPatch, patience: float, moment: str
) -> None:
    """They would write into memory that was given back."""
    inside, leave, over = (threading.Event() for _ in range(3))
    written_after: list[bool] = []
    start, end = Crew._start, Crew.end
    interrupts = [KeyboardInterrupt(moment)]

    def ending(self: Crew, job: Job) -> None:
        if moment == "ending" and interrupts:
            raise interrupts.pop()
        leave.set()  # it waits for the others all the same
        end(self, job)

    def starting(self: Crew) -> bool:
        started = start(self)
        assert inside.wait(patience)
        if moment == "calling" and interrupts:
            raise interrupts.pop()
        return started

    def lingering() -> None:
        inside.set()
        leave.wait(patience)
        written_after.append(over.is_set())

    monkeypatch.setattr(Crew, "end", ending)
    monkeypatch.setattr(Crew, "_start", starting)
    copying(monkeypatch, on_others=lingering)
    with pytest.raises(KeyboardInterrupt, match=moment):
        copier.copy(np.zeros_like(source), source)
    over.set()
    leave.set()
    assert written_after
    assert not any(written_after)


def test_what_stops_another_thread_is_raised(
    copier: HostCopier, source: Any, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    inside = threading.Event()

    def fail() -> None:
        inside.set()
        raise MemoryError("on purpose")

    copying(monkeypatch, lambda: inside.wait(patience), fail)
    with pytest.raises(MemoryError, match="on purpose"):
        copier.copy(np.zeros_like(source), source)


def test_aside_is_another_thread(copier: HostCopier) -> None:
    here = threading.current_thread()

    async def work() -> list[bool]:
        return [await copier.aside(lambda: threading.current_thread() is here) for _ in range(3)]

    assert asyncio.run(work()) == [False] * 3


def test_aside_raises_what_the_call_does(copier: HostCopier) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(copier.aside(lambda: 1 // 0))
