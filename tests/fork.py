"""A forked child, made at the worst moment."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from typing import Any

from forge3d_core.errors import Forked

Calls = Sequence[Callable[[], Any]]


def complaints_of_a_child(refused: Calls, quiet: Calls, locks: Sequence[Any], patience: float) -> list[str]:
    """Fork while another thread is inside each of ``locks``, and return what was wrong in the child.

    There each call of ``refused`` must raise :class:`Forked`, and each of ``quiet`` nothing.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    held, leave = threading.Event(), threading.Event()

    def hold_locks() -> None:
        for lock in locks:
            lock.acquire()
        held.set()
        leave.wait(patience)
        for lock in locks:
            lock.release()

    holder = threading.Thread(target=hold_locks)
    holder.start()
    assert held.wait(patience)
    child = context.Process(target=_use, args=(refused, quiet, sending), daemon=True)
    child.start()
    leave.set()
    holder.join()
    try:
        assert receiving.poll(patience), "the child hangs"
        found: list[str] = receiving.recv()
        return found
    finally:
        child.kill()
        child.join(patience)


def _use(refused: Calls, quiet: Calls, report: Any) -> None:
    found = []
    for number, call in enumerate(refused):
        try:
            call()
            found.append(f"call {number} went through")
        except Forked:
            pass
        except BaseException as error:
            found.append(f"call {number}: {error!r}")
    for number, call in enumerate(quiet):
        try:
            call()
        except BaseException as error:
            found.append(f"quiet call {number}: {error!r}")
    report.send(found)
