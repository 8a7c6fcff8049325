"""A run of the suite in a process of its own, and the events it tells of itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs

from forge3d_conformance.lifeline import lifeline

Event = dict[str, Any]

LOOK_SECONDS = 0.1
STALLED_SECONDS = 300.0
"""After this long without a word the run is killed: a test has its own, shorter, limit."""

END_SECONDS = 30.0
"""How long a run that is told to end may take for it: it closes its devices and writes its report."""

STRAY_OPTIONS = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


@attrs.frozen
class Ran:
    """How a run ended: ``last`` is its closing event, None where it never came to an end."""

    status: int
    last: Event | None
    at: str  # the test that was under way when the last event came
    output: str
    doubt: str = ""
    """Why what the run says at its end does not follow from what it told before, if it does not."""

    @property
    def holds(self) -> bool:
        """Whether the run came to its end, and all that it was to show holds."""
        return self.last is not None and self.status == 0 and self.last["holds"] and not self.doubt

    def how(self) -> str:
        """Say how a run that did not come to an end was ended."""
        ended = (
            f"was ended by signal {-self.status}" if self.status < 0 else f"ended with status {self.status}"
        )
        return f"the run {ended}" + (f" while testing {self.at}" if self.at else " before its first test")


@attrs.define
class Recount:
    """What a run tells as it goes on, counted by its parent: the run's own process is the backend's, too."""

    planned: int = 0
    begun: int = 0
    passed: set[str] = attrs.field(factory=set)
    failed: set[str] = attrs.field(factory=set)

    def then(self, tell: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return what counts an event and passes it on."""

        def told(event: Event) -> None:
            match event["event"]:
                case "begin":
                    self.planned += event["tests"]
                case "start":
                    self.begun += 1
                case "test" if event["mutant"] is None:
                    if event["ending"] == "pass":
                        self.passed.add(event["clause"])
                    elif event["ending"] == "fail":
                        self.failed.add(event["clause"])
            tell(event)

        return told

    def doubt(self, end: Event | None) -> str:
        """Say why an end that is a success does not follow from what was told; empty if it does."""
        if end is None or not end["holds"]:
            return ""
        if self.begun != self.planned:
            return f"the run was to begin {self.planned} tests and told of {self.begun}"
        for clause in end["clauses"]:
            if clause["state"] == "pass" and (clause["id"] in self.failed or clause["id"] not in self.passed):
                return f"the run says that {clause['id']} passed, and told of no pass, or of a failure"
        return ""


def run_suite(arguments: Sequence[str], tell: Callable[[Event], None]) -> Ran:
    """Run pytest over the clauses with these arguments of the plugin; ``tell`` gets each event in turn.

    The working directory's pytest configuration, its conftest.py and installed pytest plugins take no part.
    SIGTERM and Ctrl-C end the run with this process, whose exit status is then the shell's for it; the run
    has time to write what it has found. A run whose parent is killed ends by itself.
    """
    package = files("forge3d_conformance")
    with (
        _termination() as terminated,
        lifeline() as held,
        tempfile.TemporaryDirectory(prefix="forge3d-conformance-") as directory,
    ):
        events, output = Path(directory, "events"), Path(directory, "output")
        events.touch()
        command = [
            *(sys.executable, "-P", "-m", "pytest", "--pyargs", "forge3d_conformance.clauses"),
            *("-c", str(package / "suite.ini"), "--noconftest", "-p", "no:cacheprovider"),
            *("-p", "pytest_timeout", "-p", "forge3d_conformance.plugin", "--events", str(events)),
            *(option for end in held for option in ("--lifeline", str(end))),
            *arguments,
        ]
        environment = {name: value for name, value in os.environ.items() if name not in STRAY_OPTIONS}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        with (
            output.open("wb") as sink,
            events.open(encoding="utf-8") as source,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=held,
            ) as process,
        ):
            try:
                told = Recount()
                last, at = _follow(process, source, told.then(tell), terminated)
            except BaseException as error:
                _end(process, told=isinstance(error, KeyboardInterrupt))
                raise
        return Ran(process.returncode, last, at, output.read_text("utf-8", "replace"), told.doubt(last))


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """Note SIGTERM instead of dying of it, which would leave the run an orphan."""
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted  # only the main thread may ask for signals
        return
    earlier = signal.signal(signal.SIGTERM, lambda *_: noted.set())
    try:
        yield noted
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _end(process: subprocess.Popen[bytes], *, told: bool) -> None:
    """End the run, which has time to write its report, unless the terminal has ``wait_callback`` it."""
    if not told:
        process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _follow(
    process: subprocess.Popen[bytes],
    source: Any,
    tell: Callable[[Event], None],
    terminated: threading.Event,
) -> tuple[Event | None, str]:
    last: Event | None = None
    at, partial, ended = "", "", False
    heard = time.monotonic()
    while not ended:
        ended = process.poll() is not None  # looked at first, so that what it wrote last is read too
        while line := source.readline():
            partial += line
            if not partial.endswith("\n"):
                break
            heard = time.monotonic()
            event: Event = json.loads(partial)
            partial = ""
            if event["event"] == "start":
                at = event["clause"] + (f" under {event['mutant']}" if event["mutant"] else "")
            elif event["event"] == "end":
                last = event
            tell(event)
        if terminated.is_set():
            raise SystemExit(128 + signal.SIGTERM)
        if time.monotonic() - heard > STALLED_SECONDS:
            process.kill()
        if not ended:
            terminated.wait(LOOK_SECONDS)
    return last, at
