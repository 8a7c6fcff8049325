"""Signals wait while a public call is under way: its locks are Python's, and a handler may raise anywhere."""

from __future__ import annotations

import functools
import inspect
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=type)
STEP = 0.05


class Late:
    """Stands in for a program's handler, and keeps what it is to be told."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler
        self.told: tuple[Any, ...] | None = None

    def __call__(self, *told: Any) -> None:
        self.told = told

    def heed(self) -> None:
        told, self.told = self.told, None
        if told is not None:
            self.handler(*told)


def shielded(cls: C) -> C:
    """Have every public method and property of a class put off Ctrl-C until it ends, or rests."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name not in ("__init__", "__enter__", "__exit__"):
            continue
        if isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(_shielded(member.fget)))
        elif inspect.isfunction(member) and not inspect.iscoroutinefunction(member):
            setattr(cls, name, _shielded(member))
    return cls


def heed() -> None:
    """Let what has come meanwhile interrupt a wait; where this is called, nothing is half way."""
    late = signal.getsignal(signal.SIGINT)
    if isinstance(late, Late) and threading.current_thread() is threading.main_thread():
        late.heed()


def wait_for(changed: threading.Condition, due: Callable[[], Any], timeout: float | None) -> Any:
    """Wait as a condition's ``wait_for`` does, a step at a time, between which Ctrl-C is heeded."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while not (settled := due()):
        left = STEP if deadline is None else min(STEP, deadline - time.monotonic())
        if left <= 0:
            return settled
        changed.wait(left)
        heed()
    return settled


def _shielded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **named: Any) -> Any:
        handler = signal.getsignal(signal.SIGINT)
        main = threading.current_thread() is threading.main_thread()
        if isinstance(handler, Late) or not callable(handler) or not main:
            return method(*args, **named)
        late = Late(handler)
        try:
            signal.signal(signal.SIGINT, late)
            return method(*args, **named)
        finally:
            signal.signal(signal.SIGINT, handler)
            late.heed()

    return call
