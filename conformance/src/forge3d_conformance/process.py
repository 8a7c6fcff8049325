"""A process that runs the suite's clauses under pytest, and what it says on its way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import attrs

from forge3d_conformance.events import Event, EventReader
from forge3d_conformance.lifeline import lifeline

STALLED_SECONDS = 300.0
"""After this long without a word the run is killed: a test has its own, shorter, limit."""

END_SECONDS = 30.0
"""How long a run that is told to end may take for it: it closes its devices and writes its report."""

STRAY_OPTIONS = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")


@attrs.define(eq=False)
class SuiteProcess:
    """A running process; ``last`` is its closing event, and ``at`` what it tests."""

    process: subprocess.Popen[bytes]
    output: Path
    _reader: EventReader
    last: Event | None = None
    at: str = ""
    ended: bool = False
    _heard: float = attrs.field(factory=time.monotonic)

    def news(self) -> Iterator[Event]:
        """Yield the events that have come since; kill a process that has said nothing for too long.

        ``ended`` is True after this has yielded all that there will be.
        """
        ended = self.process.poll() is not None  # looked at first, so that what it wrote last is read too
        for event in self._reader.read():
            self._heard = time.monotonic()
            if event["event"] == "start":
                self.at = event["clause"] + (f" under {event['mutant']}" if event["mutant"] else "")
            elif event["event"] == "end":
                self.last = event
            yield event
        if time.monotonic() - self._heard > STALLED_SECONDS:
            self.process.kill()
        self.ended = ended

    def end(self, *, told: bool) -> None:
        """End it, which has time to write its report; ``told``: the terminal has sent it the signal."""
        if not told:
            self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def how(self) -> str:
        """Say how one that did not come to an end was ended."""
        status = self.process.returncode
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"the run {ended}" + (f" while testing {self.at}" if self.at else " before its first test")


@contextmanager
def suite_process(arguments: Sequence[str], directory: Path, name: str = "") -> Iterator[SuiteProcess]:
    """Start pytest over the clauses with these arguments of the plugin; files of its own go to ``directory``.

    The working directory's pytest configuration, its conftest.py and what is installed of plugins for pytest
    and hypothesis take no part.
    A process whose parent is killed ends by itself.
    """
    package = files("forge3d_conformance")
    events, output = directory / f"events{name}", directory / f"output{name}"
    environment = {name: value for name, value in os.environ.items() if name not in STRAY_OPTIONS}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = environment["HYPOTHESIS_NO_PLUGINS"] = "1"
    with lifeline() as held, EventReader(events) as reader, output.open("wb") as sink:
        command = [
            *(sys.executable, "-P", "-m", "pytest", "--pyargs", "forge3d_conformance.clauses"),
            *("-c", str(package / "suite.ini"), "--noconftest", "-p", "no:cacheprovider"),
            *("-p", "pytest_timeout", "-p", "forge3d_conformance.plugin", "--events", str(events)),
            *(option for end in held for option in ("--lifeline", str(end))),
            *arguments,
        ]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=held,
        ) as process:
            yield SuiteProcess(process, output, reader)
