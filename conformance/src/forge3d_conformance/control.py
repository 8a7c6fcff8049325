"""What a backend could do instead of failing: skip, exit, interrupt without a signal, reject examples."""

from __future__ import annotations

import signal
import threading
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from hypothesis.errors import DidNotReproduce, UnsatisfiedAssumption
from hypothesis.statistics import collector

from forge3d_conformance.violation import ClauseViolation, leaves

CONTROL = (
    pytest.skip.Exception,
    pytest.xfail.Exception,
    pytest.exit.Exception,
    unittest.SkipTest,
    UnsatisfiedAssumption,
    DidNotReproduce,
    GeneratorExit,
    SystemExit,
)
"""What ends a test, or a run, without failing it. No clause test raises any of them."""

GAVE_UP = "gave up because: Aborted test because unable to satisfy"
"""What hypothesis notes of an example that it could not draw: two in five of rules with conditions."""

FEW, MAX_SHARE = 5, 0.75
"""Examples that may be rejected for no such reason, and what share of all for any."""


_interrupted = threading.Event()


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Interrupt the run and note it: KeyboardInterrupt without a signal is a backend's."""
    _interrupted.set()
    raise KeyboardInterrupt


def listen(*, terminal: bool) -> None:
    """Have SIGINT interrupt the run, where it does; with ``terminal`` False SIGTERM as well.

    SIGINT alone would not do for a parent to end a run: shells have background jobs ignore it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    if not terminal:
        signal.signal(signal.SIGTERM, interrupt)


def stray(error: BaseException) -> BaseException | None:
    """Return what in ``error`` would end a test without failing it, if there is anything."""
    for leaf in leaves(error):
        if isinstance(leaf, CONTROL) or (isinstance(leaf, KeyboardInterrupt) and not _interrupted.is_set()):
            return leaf
    return None


@contextmanager
def controlled(*, replay: bool) -> Iterator[None]:
    """Turn what would end the test in the block without failing it into a violation.

    ``replay``: an example is run again, and hypothesis says so when it fails no longer.
    """
    seen: list[Any] = []
    try:
        with collector.with_value(seen.append):  # type: ignore[arg-type]
            yield
    except BaseException as error:
        if (leaf := stray(error)) is not None and not (replay and isinstance(leaf, DidNotReproduce)):
            raise ClauseViolation(
                f"{type(leaf).__module__}.{type(leaf).__name__} came out of a call, which would end the test "
                f"without failing it: {leaf}"
            ) from error
        raise
    cases = [case for stats in seen for case in stats.get("generate-phase", {}).get("test-cases", ())]
    rejected = [case for case in cases if case["status"] == "invalid"]
    strange = [case for case in rejected if not any(event.startswith(GAVE_UP) for event in case["events"])]
    if len(strange) > FEW or len(rejected) > max(FEW, MAX_SHARE * len(cases)):
        raise ClauseViolation(
            f"{len(rejected)} of {len(cases)} examples were rejected, of which nothing is known; "
            f"{len(strange)} of them by no strategy"
        )
