"""Calls on threads of their own, and how long they are waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

PROMPT = 1.0
"""Seconds that "at once" and "soon after its timeout" may take, the same with and without a mutant."""

T = TypeVar("T")


def in_thread(work: Callable[..., T], *args: Any) -> Future[T]:
    """Call ``work`` on a daemon thread of its own, which nobody has to wait for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            value = work(*args)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)

    threading.Thread(target=run, name="conformance", daemon=True).start()
    return future


def pauses(seconds: float) -> Iterator[float]:
    """Yield how long to pause before each next look, longer and longer, for ``seconds`` in all."""
    pause, left = 0.0005, seconds
    while left > 0:
        yield min(pause, left)
        left -= pause
        pause = min(pause * 1.5, 0.02)
