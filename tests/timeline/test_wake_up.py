"""Waits, callbacks and polls at once, against an adversary: no wake-up is lost."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core.errors import ForgeError, KernelError
from forge3d_core.timeline.timeline import Timeline

from .signals import Signals, Token


@pytest.mark.parametrize("seed", range(12))
def test_no_wake_up_is_lost(seed: int, background: Callable[..., Any], patience: float) -> None:
    """Threads, callbacks and polls against tokens that complete in an adversarial order on another thread."""
    draw = random.Random(seed)
    count, timeline = 60, Timeline("compute", Signals())
    failing = draw.choice([None, draw.randrange(count)])
    tokens = [Token() for _ in range(count)]
    told: list[tuple[int, Exception | None]] = []
    over = threading.Event()

    def settle(point: Any, error: Exception | None) -> None:
        told.append((point.value, error))
        if len(told) == count:
            over.set()

    def drive() -> None:
        window: list[Token] = []
        for number, token in enumerate(tokens):
            try:
                timeline.enqueue(lambda token=token: token)
            except ForgeError:
                return
            window.append(token)
            while len(window) > draw.randrange(1, 9):
                one = window.pop(draw.randrange(len(window)))
                one.finish(
                    KernelError(f"seed {seed}") if failing is not None and one is tokens[failing] else None
                )
            if number % 7 == 0:
                assert timeline.completed <= timeline.submitted
        for one in window:
            one.finish(
                KernelError(f"seed {seed}") if failing is not None and one is tokens[failing] else None
            )

    values = list(range(1, count + 1))
    draw.shuffle(values)
    waiters = {}
    for value in values[: count // 2]:
        waiters[value] = background(timeline.point(value).wait, patience)
    for value in values:
        timeline.point(value).on_done(settle)
    driving = background(drive)
    seen = [timeline.completed for _ in range(200)]
    assert seen == sorted(seen)
    driving.result(patience)
    assert over.wait(patience), f"seed {seed}: {len(told)} of {count} callbacks came"
    good = count if failing is None else failing
    for value, waiter in waiters.items():
        assert (waiter.exception(patience) is None) == (value <= good), f"seed {seed}, value {value}"
    assert sorted(value for value, _ in told) == list(range(1, count + 1))
    assert {value for value, error in told if error is None} == set(range(1, good + 1))
    assert timeline.completed == good
    assert all(token.retired == (number < good) for number, token in enumerate(tokens))
