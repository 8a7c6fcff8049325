"""Interrupts at every point where the interpreter looks for one, in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

import attrs

MOST = 2000
"""More chances than any call under test has."""


@attrs.define
class Interrupter:
    """Raises ``KeyboardInterrupt`` at its ``number``-th chance in the code of ``modules``, once.

    CPython looks for signals when a function is entered and when a call has returned. A profiler is told
    of both, and what it raises comes up just there. (It looks when a loop jumps back, too.)
    """

    number: int
    modules: tuple[ModuleType, ...]
    seen: int = 0
    raised: bool = False

    def run(self, call: Callable[[], object]) -> None:
        files = {module.__file__ for module in self.modules}

        def chance(frame: FrameType, event: str, _argument: Any) -> None:
            if event not in ("call", "c_return") or frame.f_code.co_filename not in files:
                return
            self.seen += 1
            if self.seen > self.number and not self.raised:
                self.raised = True
                raise KeyboardInterrupt

        sys.setprofile(chance)
        try:
            call()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:  # Condition.wait can make the one the other
            if "un-acquired lock" not in str(error):
                raise
        finally:
            sys.setprofile(None)


def interrupters(*modules: ModuleType) -> Iterator[Interrupter]:
    """Yield one for each chance, until a call ran to its end without one."""
    for number in range(MOST):
        one = Interrupter(number, modules)
        yield one
        if not one.raised:
            assert number, "there was no chance to interrupt"
            return
    raise AssertionError("the call never runs to its end")


def while_handling(call: Callable[[], object]) -> None:
    """Call while an error of the caller's own is handled: Python hangs that on whatever the call raises."""
    try:
        raise KeyError("the caller's own")
    except KeyError:
        call()


def everywhere(operation: Callable[[], object], *modules: ModuleType) -> Iterator[int]:
    """Interrupt ``operation`` at its first chance, then at its second, and so on; yield after each."""
    for interrupter in interrupters(*modules):
        interrupter.run(operation)
        if interrupter.raised:
            yield interrupter.number
