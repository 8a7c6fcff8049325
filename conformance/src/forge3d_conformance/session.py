"""A run of the suite inside pytest: which tests run, how each ended, and what it all proves."""

from __future__ import annotations

import gc
import shlex
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import pytest

from forge3d_conformance import inventory, profiles
from forge3d_conformance.catalogue import Catalogue, RunLevel, load, refuse_nothing
from forge3d_conformance.errors import ReportError, SetupError
from forge3d_conformance.events import Event, tell
from forge3d_conformance.exactness import matching, settled, strays
from forge3d_conformance.inventory import Inventory
from forge3d_conformance.mutants import Mutant, breaking
from forge3d_conformance.outcome import RunOutcome, conclude
from forge3d_conformance.record import Record
from forge3d_conformance.repeat import Example, clear_scripts, write_scripts
from forge3d_conformance.report import BackendIdentity, Report, begin, publish
from forge3d_conformance.report.canonical import digest_of
from forge3d_conformance.report.store import JSON
from forge3d_conformance.subject import excuse
from forge3d_conformance.target import Target, find_target
from forge3d_conformance.trial import ALREADY, RUN_SECONDS, SOUND, ClauseRun
from forge3d_core.errors import ForgeError

TEST_SECONDS = 120
"""After this long a test is stopped and has failed."""


@attrs.define(eq=False)
class ClauseSession:
    """The plugin object of one run; registered when ``--backend`` is given."""

    target: Target
    catalogue: Catalogue
    level: RunLevel
    selection: str
    seed: int
    self_test: bool
    directory: Path | None
    events: Path | None
    example: Example | None = None
    exact: str = ""  # a glob: the mutants that match lie under every test, not their clauses' alone
    jobs: int = 1  # how many processes have shared the tests
    ended: bool = True  # False where a worker came to no end: then this run does not either
    suite: Inventory = attrs.field(init=False, default=Inventory({}, {}))
    expected: dict[str, list[str]] = attrs.field(factory=dict)
    mutants: dict[str, Mutant] = attrs.field(factory=dict)
    records: list[Record] = attrs.field(factory=list)
    begun: Report = attrs.field(init=False)
    outcome: RunOutcome | None = attrs.field(init=False, default=None)
    _binding: frozenset[str] = attrs.field(init=False, default=frozenset())
    _since: float = attrs.field(init=False, factory=time.monotonic)
    _profile: str = attrs.field(init=False, factory=hypothesis.settings.get_current_profile_name)

    @classmethod
    def configured(cls, config: pytest.Config) -> ClauseSession:
        """Find the backend and leave a report that says *running*; raises :class:`SetupError`."""
        catalogue = load()
        selection, level = ",".join(config.getoption("--clause") or "*"), config.getoption("--level")
        profiles.register()
        try:
            refuse_nothing(catalogue, selection, level)
            session = cls(
                find_target(config.getoption("--backend")),
                catalogue,
                level,
                selection,
                config.getoption("--seed"),
                config.getoption("--self-test"),
                config.getoption("--report"),
                config.getoption("--events"),
                Example.parse(example) if (example := config.getoption("--example")) else None,
                config.getoption("--exact"),
            )
            session._begin()
        except ForgeError as error:
            raise SetupError(str(error)) from error
        return session

    def _begin(self) -> None:
        self._binding = frozenset(c.id for c in self.catalogue.binding(self.level, self.selection))
        info = self.target.info
        name, _, version = self.target.distribution.partition(" ")
        identity = BackendIdentity(
            self.target.name, name, version, info.name, info.driver, info.selector, info.kind
        )
        self.begun = begin(
            self.catalogue,
            identity,
            level=self.level,
            seed=self.seed,
            capabilities=self.target.capabilities,
            selection=self.selection,
        )
        if self.directory is not None:
            publish(self.begun, self.catalogue, self.directory)
            clear_scripts(self.directory)

    def repro(self, clause: str) -> str:
        """Return the command that repeats just this clause."""
        parts = ["forge3d", "conformance", "--backend", self.target.spec, "--clause", clause]
        parts += ["--level", self.level] if self.level != "core" else []
        return shlex.join([*parts, "--seed", str(self.seed)])

    # collection

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        marker = metafunc.definition.get_closest_marker("clause")
        if marker is None or not self.self_test or "mutant" not in metafunc.fixturenames:
            return
        if marker.args[0] not in self._binding:  # it is deselected: one item of it is enough
            return
        found = self._exact or breaking(marker.args[0])
        metafunc.parametrize(
            "mutant", [None, *found], ids=[SOUND, *(mutant.name for mutant in found)], indirect=True
        )

    @property
    def _exact(self) -> tuple[Mutant, ...]:
        return matching(self.exact, self._binding) if self.exact else ()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept, dropped = [], []
        for item in items:
            marker = item.get_closest_marker("clause")
            if marker is None:
                kept.append(item)
                continue
            if (id := marker.args[0]) not in self.catalogue:
                raise pytest.UsageError(f"{item.nodeid} tests {id!r}, which is no clause of the catalogue")
            if id not in self._binding:
                dropped.append(item)
                continue
            kept.append(item)
            self._enlist(item, id, tuple(marker.kwargs.get("requires", self.catalogue[id].requires)))
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = kept

    def _enlist(self, item: pytest.Item, clause: str, requires: tuple[str, ...]) -> None:
        trial = ClauseRun.enlist(item, clause, requires)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
        if trial.mutant is None:
            self.expected.setdefault(clause, []).append(trial.name)
        else:
            self.mutants[trial.mutant.name] = trial.mutant

    def _expect(self) -> None:
        """Expect what the suite has for all that is selected, whatever of it was collected."""
        self.suite = inventory.take()
        for clause in self.catalogue.binding(self.level, self.selection):
            names = self.expected.get(clause.id, [])
            for test in self.suite.tests.get(clause.id, ()):
                found = sum(inventory.base(name) == test.name for name in names)
                if not found:
                    names.append(test.name)
                elif found < test.cases:
                    names.append(f"{test.name} ({test.cases - found} more of its {test.cases} cases)")
            if names:  # a clause without a test stays without a result
                self.expected[clause.id] = names
            if names and self.self_test and not self.exact:
                self.mutants.update({mutant.name: mutant for mutant in self.suite.mutants.get(clause.id, ())})

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect()
        self._tell(
            event="begin",
            backend=self.target.spec,
            adapter=self.target.info.name,
            tests=sum(ClauseRun.of(item) is not None for item in session.items),
            clauses=len(self.expected),
            mutants=len(self.mutants),
        )
        gc.collect()
        gc.freeze()  # so that the collections below look at what tests make, not at pytest and what it knows

    # running

    def heed(self, event: Event) -> None:
        """Take in what a worker tells, and pass it on."""
        if event["event"] == "test":
            self.records.append(Record.told(event))
        self._tell(**event)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Leave no device to the next test: a driver has room for so many that are not collected yet."""
        result = yield
        if (trial := ClauseRun.of(item)) is None or trial.record:  # most mutants' tests are skipped at once
            gc.collect()
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if (trial := ClauseRun.of(item)) is None:
            return
        mutant = trial.mutant
        self._tell(event="start", clause=trial.clause, mutant=mutant.name if mutant else None)
        self._settle(item, "forge3d-mutant" if mutant else f"forge3d-{self.level}")
        if mutant and settled(mutant, trial.clause, self.records):
            pytest.skip(ALREADY)
        if mutant is None and time.monotonic() - self._since > RUN_SECONDS[self.level]:
            trial.cut(f"{trial.name} was not begun: the run had taken {RUN_SECONDS[self.level]:.0f} s")
            pytest.skip("the run has taken its time")
        if reason := self._why_unsupported(trial):
            trial.unsupported(reason, self._lacking(trial))
            pytest.skip(reason)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> object:
        if (trial := ClauseRun.of(pyfuncitem)) is None:
            return None
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        trial.attempt(lambda: pyfuncitem.obj(**arguments))
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if (trial := ClauseRun.of(item)) is None:
            return report
        record = trial.judge(call, report)
        if record is not None:
            if record.ending == "inconclusive":
                told = (str(item.path), 0, f"inconclusive: {record.reason}")
                report.outcome, report.longrepr = "skipped", told
            elif record.ending == "fail" and trial.mutant is None:
                known = self.target.subject.known(record.clause, self.target.info)
                if reason := excuse(known, record.message):
                    report.outcome, report.wasxfail = "skipped", reason
        if trial.mutant is not None and report.outcome == "failed":
            report.outcome, report.longrepr = "passed", None
        if report.when == "teardown" and trial.record is not None:
            self.records.append(trial.record)
            self._tell(event="test", killed=trial.killed, **trial.record.told_of())
        if report.when == "teardown":
            trial.bench = None  # pytest keeps its items, and so every device with them
        report.forge3d = trial  # type: ignore[attr-defined]
        return report

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        if (trial := getattr(report, "forge3d", None)) is None:
            return None
        if trial.mutant is None:
            if trial.record and trial.record.ending == "inconclusive" and report.when == "call":
                return "inconclusive", "?", "INCONCLUSIVE"
            return None
        if report.when != "call":
            return "", "", ""
        if trial.killed:
            return "mutants killed", "k", "KILLED"
        return "mutants unseen by a test", "m", "UNSEEN"

    # the end

    def pytest_unconfigure(self) -> None:
        gc.unfreeze()
        hypothesis.settings.load_profile(self._profile)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if not self.ended:
            return
        self.outcome = outcome = self._leave(conclude(self))
        if exitstatus == pytest.ExitCode.OK and not outcome.holds:
            code = pytest.ExitCode
            session.exitstatus = code.TESTS_FAILED if outcome.report is not None else code.NO_TESTS_COLLECTED
        self._tell(
            event="end",
            exit=int(session.exitstatus),
            holds=outcome.holds,
            reasons=list(outcome.reasons),
            report=self._written(outcome),
            verdict=outcome.judgement.verdict if outcome.judgement else None,
            exceptions=list(outcome.judgement.exceptions) if outcome.judgement else [],
            strays=[attrs.asdict(stray) for stray in strays(self.mutants.values(), self.records)],
            unspoken=list(self.catalogue.unspoken(self.level)),
            whole=not outcome.judgement.left_out if outcome.judgement else False,
            clauses=[_some(r, "id", "state", "message", "reason", "repro") for r in outcome.clauses],
            mutants=[_some(r, "id", "clause", "outcome", "reason") for r in outcome.mutants],
        )

    def _leave(self, outcome: RunOutcome) -> RunOutcome:
        """Write the report and the scripts; a run whose report cannot be written is no success."""
        if outcome.report is None or self.directory is None:
            return outcome
        failed = [record for record in self.records if record.ending == "fail" and not record.mutant]
        try:
            publish(outcome.report, self.catalogue, self.directory)
            write_scripts(self.directory, failed, backend=self.target.spec, level=self.level, seed=self.seed)
        except (ReportError, OSError) as error:
            return attrs.evolve(outcome, reasons=(*outcome.reasons, str(error)))
        return outcome

    def _written(self, outcome: RunOutcome) -> tuple[str, str] | None:
        """Return the path of the report and its digest, for the parent to compare when all is over."""
        found, folder = outcome.report, self.directory
        return (str(folder / JSON), digest_of(found)) if found is not None and folder is not None else None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.outcome is None:
            return
        terminalreporter.section(f"forge3d conformance of {self.target.spec}", "=")
        for line in self.outcome.lines():
            terminalreporter.write_line(line)

    # what the hooks share

    def _why_unsupported(self, trial: ClauseRun) -> str | None:
        if reason := self.target.subject.why_unsupported(trial.clause):
            return reason
        if lacking := self._lacking(trial):
            meaning = self.catalogue.capabilities.get(lacking[0], "unknown to the catalogue")
            return f"needs {', '.join(lacking)}, which {self.target.name} does not lend ({meaning})"
        return None

    def _lacking(self, trial: ClauseRun) -> tuple[str, ...]:
        requires = (*trial.requires, *(trial.mutant.requires if trial.mutant else ()))
        return tuple(name for name in requires if name not in self.target.capabilities)

    def _settle(self, item: pytest.Item, profile: str) -> None:
        """Make hypothesis do as this run wants; it reads the settings off the function at the call."""
        hypothesis.settings.load_profile(profile)
        function: Any = getattr(item, "obj", None)
        if hypothesis.is_hypothesis_test(function):
            function._hypothesis_internal_use_settings = hypothesis.settings()
            hypothesis.seed(self.seed)(function)
            if self.example is not None:
                self.example.impose(function)

    def _tell(self, **event: Any) -> None:
        if self.events is not None:
            tell(self.events, event)


def _some(value: object, *names: str) -> dict[str, object]:
    return {name: getattr(value, name) for name in names}
