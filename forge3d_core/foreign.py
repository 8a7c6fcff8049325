"""What a driver raises that is no error of forge3d's, and how an error is kept without callers' frames."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import traceback
from collections.abc import Iterator
from types import CodeType

import numpy as np
from numpy.typing import NDArray

from forge3d_core.driver import HostBlock
from forge3d_core.errors import DriverError, ForgeError


def translated(error: BaseException, doing: str, advice: str = "") -> BaseException:
    """Return what to raise for ``error``, which came out of a driver.

    An error of forge3d's, and what the program's own signal handler raised, stays itself. Anything else
    becomes the cause of a :class:`DriverError`; ``doing`` begins its message, ``advice`` ends it.
    """
    if isinstance(error, ForgeError) or from_signal_handler(error):
        return error
    said = " ".join("".join(traceback.format_exception_only(error)).split())
    wrapped = DriverError(
        f"{doing} raised {said}; {advice or 'a fault of the backend, which has to mend it'}"
    )
    wrapped.__cause__ = error
    return wrapped


@contextlib.contextmanager
def asking(doing: str) -> Iterator[None]:
    """Have what the driver raises in the block be an error of forge3d's; see :func:`translated`."""
    try:
        yield
    except Exception as error:
        # No name for it: an error that its own frame keeps lives, with all frames, until the collector comes.
        if translated(error, doing) is error:
            raise
        raise translated(error, doing) from error


def view_of(block: HostBlock) -> NDArray[np.uint8]:
    """Return all of ``block`` as the driver shows it."""
    try:
        return block.view()
    except Exception as error:  # no `with asking`: reads and reservations come by here
        if translated(error, "the driver's view of a host block") is error:  # no name for it: see above
            raise
        raise translated(error, "the driver's view of a host block") from error


def from_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler of the program raised ``error``, on its way through whatever was running.

    Python runs handlers on the main thread, between two steps of the code there. What they raise is not
    what that code raised: it interrupts the call and says nothing about the device.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if not isinstance(error, Exception):
        return True  # KeyboardInterrupt, SystemExit: the program's own way to end
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    return any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__))


def keep(error: BaseException) -> None:
    """Make an error fit to be kept: its tracebacks hold the frames, so the locals, of all callers.

    The traceback of its cause stays as text, in a note of ``error``.
    """
    cause = error.__cause__
    if cause is not None and cause.__traceback__ is not None:
        error.add_note("".join(traceback.format_exception(cause)).rstrip())
    linked: list[BaseException | None] = [error]
    seen: set[int] = set()
    while linked:
        one = linked.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            linked += [one.__cause__, one.__context__]


def _code(handler: object) -> CodeType | None:
    """Return the code that a signal handler runs, if it is Python's."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None
