"""Running a plugin's code so that neither an exception, nor an exit, nor a hang of it reaches us."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from forge3d_core.deadline import Deadline
from forge3d_core.errors import (
    BackendDenied,
    BackendError,
    IncompatibleApi,
    MissingDependency,
    NoDevice,
    PluginFailed,
    UnknownBackend,
)
from forge3d_core.printable import described, escaped

T = TypeVar("T")

MAX_SECONDS = 4_000_000.0
"""The longest wait: what every platform's clock can hold."""


class Hung(PluginFailed):
    """The call did not return in time; its thread or process is left behind or ended."""


KINDS: dict[str, type[BackendError]] = {
    kind.__name__: kind
    for kind in (
        *(UnknownBackend, BackendDenied, MissingDependency, IncompatibleApi, NoDevice),
        *(Hung, PluginFailed),
    )
}
"""The errors that a plugin's code can tell of itself, by name."""


def isolated(call: Callable[[], T], seconds: float, doing: str, *, backend: str = "") -> T:
    """Return ``call()``, run on a daemon thread of its own for at most ``seconds``.

    What it raises, ``SystemExit`` and ``KeyboardInterrupt`` too, becomes a :class:`BackendError` of ours
    with the original as its cause (a user's Ctrl-C arrives on the main thread, not here); its text is
    taken on that thread as well, since an exception's ``__str__`` is the plugin's code. A call that does
    not return becomes :class:`Hung`. ``doing`` completes the sentence "… raised …".
    """
    results: list[Any] = []
    failures: list[tuple[BackendError, BaseException]] = []
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # not even an exit may end us
            failures.append((contained(error, doing, backend), error))
        finally:
            ended.set()

    threading.Thread(target=run, name=f"forge3d plugin {backend}".strip(), daemon=True).start()
    if not ended.wait(Deadline.after(seconds).left()):
        raise Hung(f"{doing} did not return within {seconds:g} s", backend=backend)
    if failures:
        raise failures[0][0] from failures[0][1]
    return results[0]  # type: ignore[no-any-return]


def contained(error: BaseException, doing: str, backend: str) -> BackendError:
    """Return the error of ours that tells of ``error``: plain text, and nothing of the plugin's in it.

    A :class:`BackendError` keeps its kind, message and fix; anything else is a :class:`PluginFailed`.
    """
    kind = next((k for k in type.mro(type(error)) if k in KINDS.values()), None)
    if kind is not None:
        return kind(_message(error), backend=backend, fix=_fix(error))  # type: ignore[no-any-return]
    if isinstance(error, SystemExit):
        code = described(error).partition(": ")[2] or "None"
        return PluginFailed(f"{doing} tried to exit the process (SystemExit {code})", backend=backend)
    return PluginFailed(f"{doing} raised {described(error)}", backend=backend)


def _message(error: BaseException) -> str:
    return described(error).partition(": ")[2] or "(it has no message)"


def _fix(error: BaseException) -> str | None:
    try:
        fix = vars(error).get("fix")
    except BaseException:
        return None
    return escaped(fix) if type(fix) is str else None
