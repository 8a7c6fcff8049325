"""The workers: each part is done once, jobs take turns, and none is touched after its end."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.transfer import workers
from forge3d_core.transfer.workers import Crew, Job


def counted(parts: int, done: list[int]) -> Callable[[], bool]:
    """Return the step of a job that notes its parts."""
    numbers = itertools.count()

    def step() -> bool:
        number = next(numbers)
        if number < parts:
            done.append(number)
        return number < parts

    return step


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("helpers", [0, 1, 2, 9])
def test_each_part_is_done_once(
    threads: int, helpers: int, background: Callable[..., Any], patience: float
) -> None:
    crew = Crew(threads=threads, idle=0.01)
    jobs: list[list[int]] = [[] for _ in range(5)]
    for sharing in [background(crew.share, counted(100, done), helpers) for done in jobs]:
        sharing.result(patience)
    assert [sorted(done) for done in jobs] == [list(range(100))] * 5


def test_jobs_take_turns(until: Callable[..., None]) -> None:
    crew = Crew(threads=1, idle=0.01)
    order: list[str] = []
    begun = threading.Event()

    def of(name: str) -> Job:
        def step() -> bool:
            begun.wait()
            order.append(name)
            return order.count(name) < 6

        return Job(step, 1)

    first, second = of("a"), of("b")
    crew.begin(first)
    until(lambda: first.active == 1)
    crew.begin(second)
    begun.set()
    until(lambda: len(order) == 12)
    crew.end(first)
    crew.end(second)
    assert "".join(order) == "aabababababb"


def test_a_job_without_a_part_sleeps_until_it_is_roused(until: Callable[..., None]) -> None:
    crew = Crew(threads=2, idle=0.01)
    calls: list[bool] = []
    job = Job(lambda: bool(calls.append(True)), 1)
    crew.begin(job)
    until(lambda: job.asleep)
    assert len(calls) == 1
    crew.rouse(job)
    until(lambda: job.asleep and len(calls) == 2)
    crew.end(job)


def test_no_part_is_done_after_the_end(patience: float) -> None:
    crew = Crew(threads=3, idle=0.01)
    inside, leave = threading.Event(), threading.Event()
    over, late = [False], []

    def step() -> bool:
        inside.set()
        leave.wait(patience)
        late.append(over[0])
        return True

    job = Job(step, 3)
    crew.begin(job)
    assert inside.wait(patience)
    leave.set()
    crew.end(job)
    over[0] = True
    assert job.active == 0
    assert late
    assert not any(late)


def test_idle_workers_end_and_have_others_rest(until: Callable[..., None]) -> None:
    class Owner:
        rested = 0

        def rest(self) -> None:
            self.rested += 1

    crew, owner = Crew(threads=2, idle=0.01), Owner()
    crew.resting.add(owner)
    crew.share(counted(4, []), 2)
    until(lambda: not crew._running and owner.rested > 0)
    crew.share(counted(4, done := []), 2)
    assert len(done) == 4


def test_a_worker_keeps_nothing_of_a_job(until: Callable[..., None]) -> None:
    class Memory:
        pass

    crew, memory = Crew(threads=1, idle=60), Memory()
    gone = weakref.ref(memory)

    def share(memory: Memory) -> None:
        done = threading.Event()
        job = Job(lambda: bool(memory) and done.set() is not None, 1)
        crew.begin(job)
        done.wait()
        crew.end(job)

    share(memory)
    del memory
    until(lambda: gone() is None)


def test_where_no_thread_starts_the_caller_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers, "start_thread", none)
    crew = Crew(threads=3)
    crew.share(counted(7, done := []), 3)
    assert done == list(range(7))
    assert not crew.begin(Job(lambda: False, 1, brief=True))
    assert not crew._jobs


def test_what_stops_a_worker_stops_the_job(patience: float) -> None:
    crew, failed = Crew(threads=1, idle=0.01), threading.Event()
    here, parts = threading.current_thread(), itertools.count()

    def step() -> bool:
        if threading.current_thread() is not here:
            failed.set()
            raise MemoryError("on purpose")
        assert failed.wait(patience)
        return next(parts) < 10**9

    with pytest.raises(MemoryError, match="on purpose"):
        crew.share(step, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_has_workers_of_its_own() -> None:
    crew = Crew(threads=2, idle=60)
    crew.share(counted(50, []), 2)  # starts threads that the child has not
    with crew._lock:  # as another thread of the parent's may
        child = os.fork()
        if child == 0:
            worked = threading.Thread(target=crew.share, args=(counted(50, done := []), 2), daemon=True)
            worked.start()
            worked.join(20)
            os._exit(sorted(done) != list(range(50)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
