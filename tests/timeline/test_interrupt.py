"""An interrupt, wherever it comes: its own wait ends, everybody else's goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import attrs

from forge3d_core import driver
from forge3d_core.errors import FenceTimeout, KernelError
from forge3d_core.timeline import timeline as module
from forge3d_core.timeline import watcher
from forge3d_core.timeline.timeline import Timeline

from ..interrupts import interrupters
from .signals import Signals, submit


@attrs.define(eq=False)
class Work:
    done: bool = False


@attrs.define(eq=False)
class Prompt:
    """Work ends, or fails, when somebody waits for it in the driver, which has no lock to be left taken."""

    error: Exception | None = None
    failing: bool = False

    def query(self, token: Work) -> bool:
        if self.failing:
            raise KernelError("bad")
        return token.done

    def wait(self, token: Work, seconds: float) -> bool:
        self.failing = self.error is not None
        token.done = True
        return self.query(token)

    def retire(self, token: Work) -> None:
        pass


def busy(error: Exception | None = None) -> Timeline:
    timeline, both = Timeline("compute", Prompt(error)), Work()
    for _ in range(2):
        timeline.enqueue(lambda: both)
    return timeline


def goes_on(timeline: Timeline, background: Callable[..., Any], patience: float) -> None:
    """On other threads, as a lock that is left taken is no hindrance to the one that took it."""
    point, told = background(timeline.enqueue, Work).result(patience), threading.Event()
    background(point.on_done, lambda *_: told.set()).result(patience)
    background(point.wait, patience).result(patience)
    assert background(lambda: timeline.completed).result(patience) == timeline.submitted
    assert told.wait(patience)
    assert not timeline._pending
    assert not timeline._led


def test_a_wait(background: Callable[..., Any], patience: float) -> None:
    for interrupter in interrupters(module, threading):
        timeline = busy()
        interrupter.run(lambda timeline=timeline: timeline.point(2).wait(patience))
        goes_on(timeline, background, patience)


def test_a_wait_for_what_nobody_submits(background: Callable[..., Any], patience: float) -> None:
    def wait(timeline: Timeline) -> None:
        with contextlib.suppress(FenceTimeout):
            timeline.point(1).wait(0.001)

    for interrupter in interrupters(module, threading):
        timeline = Timeline("compute", Prompt())
        interrupter.run(lambda timeline=timeline: wait(timeline))
        goes_on(timeline, background, patience)


def test_a_look(background: Callable[..., Any], patience: float) -> None:
    for interrupter in interrupters(module, threading):
        timeline = busy()
        for _, work in timeline._pending:
            work.done = True
        interrupter.run(lambda timeline=timeline: timeline.point(2).done)
        goes_on(timeline, background, patience)


def test_a_callback_on_its_way(background: Callable[..., Any], patience: float) -> None:
    for interrupter in interrupters(module, watcher, driver):
        timeline = busy()
        interrupter.run(lambda timeline=timeline: timeline.point(1).on_done(lambda *_: None))
        goes_on(timeline, background, patience)


def test_the_news_of_a_failure(background: Callable[..., Any], patience: float) -> None:
    def wait(timeline: Timeline) -> None:
        with contextlib.suppress(KernelError):
            timeline.point(1).wait(patience)

    for interrupter in interrupters(module, threading):
        timeline = busy(KernelError("bad"))
        interrupter.run(lambda timeline=timeline: wait(timeline))
        waiting = background(timeline.point(1).wait, patience)
        assert isinstance(waiting.exception(patience), KernelError)


def test_a_follower_leads_when_its_leader_could_not_say_that_it_left(
    background: Callable[..., Any], until: Callable[..., None], patience: float
) -> None:
    timeline = Timeline("compute", Signals())
    (token,) = submit(timeline)
    interrupted = object()
    timeline._led[interrupted] = 1
    following = background(timeline.point(1).wait, patience)
    until(lambda: len(timeline._sleepers) == 1)
    del timeline._led[interrupted]
    assert token.entered.wait(patience), "nobody leads"
    token.finish()
    following.result(patience)
