"""What is made whole after a call that was cut short."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest

from forge3d_core.lifetime import interrupts
from forge3d_core.lifetime.interrupts import finish, run_then_end

from ..interrupts import interrupters


def raising(*errors: BaseException) -> tuple[Callable[[], None], list[BaseException]]:
    left = list(errors)

    def step() -> None:
        if left:
            raise left.pop(0)

    return step, left


def refuse(error: Exception) -> None:
    raise AssertionError(f"{error!r} is no error of the step's")


def test_a_step_that_ends_is_all() -> None:
    step, _ = raising()
    finish(step, refuse)


def test_it_is_repeated_until_it_has_run_to_its_end_and_then_the_interrupt_is_raised() -> None:
    last = KeyboardInterrupt("second")
    step, left = raising(SystemExit("first"), last)
    with pytest.raises(KeyboardInterrupt, match="second") as caught:
        finish(step, refuse)
    assert caught.value is last
    assert not left


@pytest.mark.parametrize("first", [None, KeyboardInterrupt()])
def test_an_error_of_its_own_ends_it(first: BaseException | None) -> None:
    error, told = ArithmeticError(), list[Exception]()
    step, left = raising(*([first] if first else []), error, KeyboardInterrupt("never"))
    if first is None:
        finish(step, told.append)
    else:
        with pytest.raises(KeyboardInterrupt):
            finish(step, told.append)
    assert told == [error]
    assert len(left) == 1


@attrs.define
class Work:
    """What two other threads are at, who leave when it is ended the third time."""

    active: int = 2
    over: bool = False
    ends: int = 0

    def end(self) -> None:
        self.over = True
        self.ends += 1
        if self.ends == 3:
            self.active = 0


def test_work_is_ended_until_no_other_thread_is_at_it() -> None:
    work, ran = Work(), list[int]()
    run_then_end(work, lambda: ran.append(1), work.end)
    assert (ran, work) == ([1], Work(0, True, 3))


@pytest.mark.parametrize("when", ["run", "end"])
def test_what_is_raised_meanwhile_is_raised_then(when: str) -> None:
    work = Work()
    steps = {"run": lambda: None, "end": work.end}
    error = KeyboardInterrupt()
    raised = raising(error)[0]
    inner = steps[when]
    steps[when] = lambda: (raised(), inner())[1]
    with pytest.raises(KeyboardInterrupt) as caught:
        run_then_end(work, steps["run"], steps["end"])
    assert caught.value is error
    assert (work.active, work.over) == (0, True)


def test_an_interrupt_at_any_moment_does_not_leave_a_thread_at_work() -> None:
    for one in interrupters(interrupts):
        work, begun = Work(), list[int]()
        one.run(partial(run_then_end, work, partial(begun.append, 1), work.end))
        assert not begun or (work.active, work.over) == (0, True)
