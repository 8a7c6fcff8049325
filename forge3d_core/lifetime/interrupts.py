"""What is done about a call that a signal's handler has cut short.

What the core promises of interrupts, and why each of its primitives keeps that, is in
``docs/decisions/0020-ends.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from forge3d_core.foreign import from_signal_handler


class Shared(Protocol):
    """Work that other threads take part in: ``active`` of them now, and none begins once it is ``over``.

    Both are attributes, as no interrupt comes where one is read.
    """

    active: int
    over: bool


def run_then_end(work: Shared, run: Callable[[], object], end: Callable[[], object]) -> None:
    """Call ``run``, then ``end`` until no other thread is at ``work`` or will be; raise what was raised last.

    So an interrupt does not cut the wait short that ``end`` is, and what the others use may go afterwards.
    """
    interrupt: BaseException | None = None
    try:
        run()
    except BaseException as error:
        interrupt = error
    while work.active or not work.over:  # no call up to the `try`, where one that is cut short is made again
        try:
            end()
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        try:
            raise interrupt
        finally:
            del interrupt  # its traceback has this frame, and with it what the callers use


def finish(step: Callable[[], object], on_error: Callable[[Exception], None]) -> None:
    """Call ``step`` until it has run to its end, then raise the interrupt that came meanwhile, if one did.

    For what an interrupted call may have left half done, and ``step`` makes whole. An error that no signal
    handler raised ends it as well, and goes to ``on_error``: the caller raises what it began with.
    """
    interrupt: BaseException | None = None
    try:
        while True:
            try:
                step()
                break
            except BaseException as error:
                if isinstance(error, Exception) and not from_signal_handler(error):
                    on_error(error)
                    break
                interrupt = error
        if interrupt is not None:
            raise interrupt
    finally:
        interrupt = None  # its traceback has this frame
