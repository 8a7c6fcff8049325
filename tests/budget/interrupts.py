"""Interrupts at every point where one can come."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import forge3d_core.allocation
import forge3d_core.budget

UNDER_TEST = {forge3d_core.budget.__file__, forge3d_core.allocation.__file__, threading.__file__}
MOST = 2000


def interrupted(operation: Callable[[], object], nth: int) -> bool:
    """Raise KeyboardInterrupt in ``operation`` at the nth point; whether there is one.

    CPython looks for signals where a function begins and where a call, of Python or of C, has returned.
    """
    left = nth

    def count(frame: Any, event: str, _arg: object) -> None:
        nonlocal left
        if event == "c_call" or frame.f_code.co_filename not in UNDER_TEST:
            return
        left -= 1
        if not left:
            sys.setprofile(None)
            raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        operation()
    except KeyboardInterrupt:
        assert not left
        return True
    finally:
        sys.setprofile(before)
    return False


def everywhere(operation: Callable[[], object]) -> Iterator[int]:
    """Interrupt ``operation`` at its first point, then at its second, and so on; yield after each."""
    for nth in range(1, MOST):
        if not interrupted(operation, nth):
            assert nth > 5, "it was hardly interrupted"
            return
        yield nth
    raise AssertionError(f"no end after {MOST} points")
