"""Threads that stand ready, for loops by hand that copy on several of them."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Crew:
    """Threads that stand ready, since starting them would be what is timed.

    ``begin`` is called once on each of them.
    """

    def __init__(self, size: int, begin: Callable[[], object]) -> None:
        self._go = [threading.Semaphore(0) for _ in range(size)]
        self._done = threading.Semaphore(0)
        self._work: Callable[[int], object] | None = None
        self._begin = begin
        self._errors: list[BaseException] = []
        for index in range(size):
            threading.Thread(target=self._run, args=(index,), daemon=True).start()

    def each(self, work: Callable[[int], object]) -> None:
        self._work = work
        for go in self._go:
            go.release()
        for _ in self._go:
            self._done.acquire()
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def close(self) -> None:
        self._work = None
        for go in self._go:
            go.release()

    def _run(self, index: int) -> None:
        self._begin()
        while True:
            self._go[index].acquire()
            if self._work is None:
                return
            try:
                self._work(index)
            except BaseException as error:
                self._errors.append(error)
            finally:
                self._done.release()
