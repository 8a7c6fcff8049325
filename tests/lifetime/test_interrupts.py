"""What is made whole after a call that was cut short."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forge3d_core.lifetime.interrupts import finish


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
