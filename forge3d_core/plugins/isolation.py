"""Running a plugin's code so that neither an exception, nor an exit, nor a hang of it reaches us."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from forge3d_core.deadline import Deadline
from forge3d_core.errors import BackendError, PluginFailed

T = TypeVar("T")


class Hung(PluginFailed):
    """The call did not return in time; its thread is left behind."""


def isolated(call: Callable[[], T], seconds: float, doing: str, *, backend: str = "") -> T:
    """Return ``call()``, run on a daemon thread of its own for at most ``seconds``.

    A :class:`BackendError` passes; anything else that it raises, ``SystemExit`` and ``KeyboardInterrupt``
    too, becomes :class:`PluginFailed` with the original as its cause (a user's Ctrl-C arrives on the
    main thread, not here). A call that does not return becomes :class:`Hung`. ``doing`` completes
    the sentence "… raised …".
    """
    results: list[Any] = []
    failures: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # not even an exit may end us
            failures.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, name=f"forge3d plugin {backend}".strip(), daemon=True).start()
    if not ended.wait(Deadline.after(seconds).left()):
        raise Hung(f"{doing} did not return within {seconds:g} s", backend=backend)
    if failures:
        raise contained(failures[0], doing, backend) from failures[0]
    return results[0]  # type: ignore[no-any-return]


def contained(error: BaseException, doing: str, backend: str) -> BackendError:
    """Return ``error`` if it tells of a backend, otherwise the :class:`PluginFailed` that tells of it."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, SystemExit):
        return PluginFailed(f"{doing} tried to exit the process (SystemExit {error.code!r})", backend=backend)
    return PluginFailed(f"{doing} raised {describe(error)}", backend=backend)


def describe(error: BaseException) -> str:
    """Return an exception's type and message on one line, whatever its ``__str__`` does."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(it has no readable message)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
