"""A run of the suite in a process of its own, and what its parent makes of the events that it tells."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from forge3d_conformance.errors import ReportError
from forge3d_conformance.events import Event
from forge3d_conformance.process import SuiteProcess, suite_process
from forge3d_conformance.report.canonical import digest_of
from forge3d_conformance.report.store import read

LOOK_SECONDS = 0.1


@attrs.frozen
class Ran:
    """How a run ended: ``last`` is its closing event, None where it never came to an end."""

    status: int
    last: Event | None
    at: str  # the test that was under way when the last event came
    output: str
    how: str
    """How a run that did not come to an end was ended."""
    doubt: str = ""
    """Why what the run says at its end does not follow from what it told before, if it does not."""

    @property
    def holds(self) -> bool:
        """Whether the run came to its end, and all that it was to show holds."""
        return self.last is not None and self.status == 0 and self.last["holds"] and not self.doubt


@attrs.define
class Recount:
    """What a run tells as it goes on, counted by its parent: the run's own process is the backend's, too."""

    planned: int = 0
    begun: int = 0
    passed: set[str] = attrs.field(factory=set)
    failed: set[str] = attrs.field(factory=set)
    ends: int = 0
    late: int = 0
    """Events that came after the end: nothing that the suite does."""

    def then(self, tell: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return what counts an event and passes it on."""

        def told(event: Event) -> None:
            self.late += self.ends
            match event["event"]:
                case "end":
                    self.ends += 1
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
        if self.late:
            return "the run told of more after its end: what the backend leaves running must not speak for it"
        if self.begun != self.planned:
            return f"the run was to begin {self.planned} tests and told of {self.begun}"
        for clause in end["clauses"]:
            if clause["state"] == "pass" and (clause["id"] in self.failed or clause["id"] not in self.passed):
                return f"the run says that {clause['id']} passed, and told of no pass, or of a failure"
        return ""


def run_suite(arguments: Sequence[str], tell: Callable[[Event], None]) -> Ran:
    """Run pytest over the clauses with these arguments of the plugin; ``tell`` gets each event in turn.

    SIGTERM and Ctrl-C end the run with this process, whose exit status is then the shell's for it; the run
    has time to write what it has found.
    """
    with (
        _termination() as terminated,
        tempfile.TemporaryDirectory(prefix="forge3d-conformance-") as directory,
        suite_process(arguments, Path(directory)) as suite,
    ):
        told = Recount()
        try:
            _follow(suite, told.then(tell), terminated)
        except BaseException as error:
            suite.end(told=isinstance(error, KeyboardInterrupt))
            raise
        output = suite.output.read_text("utf-8", "replace")
        status = suite.process.returncode
        doubt = told.doubt(suite.last) or _changed(suite.last)
        return Ran(status, suite.last, suite.at, output, suite.how(), doubt)


def _changed(end: Event | None) -> str:
    """Say whether the report is another than the run says it wrote; empty if not."""
    if end is None or not end["report"]:
        return ""
    path, digest = end["report"]
    try:
        same = digest_of(read(Path(path))) == digest
    except ReportError as error:
        return str(error)
    return "" if same else f"{path} is not the report that the run wrote: it was changed behind it"


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


def _follow(suite: SuiteProcess, tell: Callable[[Event], None], terminated: threading.Event) -> None:
    while not suite.ended:
        for event in suite.news():
            tell(event)
        if terminated.is_set():
            raise SystemExit(128 + signal.SIGTERM)
        if not suite.ended:
            terminated.wait(LOOK_SECONDS)
