"""What is done about a call of the driver that a signal's handler has cut short.

What the core promises of interrupts, and why each of its primitives keeps that, is in
``docs/decisions/0020-ends.md``.
"""

from __future__ import annotations

from collections.abc import Callable

from forge3d_core.foreign import from_signal_handler


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
