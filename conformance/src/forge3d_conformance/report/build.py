"""From the beginning of a run to its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar

import attrs

from forge3d_conformance.catalogue import Catalogue, Clause, RunLevel
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report.environment import BackendIdentity, this_platform
from forge3d_conformance.report.redact import redact
from forge3d_conformance.report.report import Report, tally
from forge3d_conformance.report.results import ClauseResult, MutantResult, PerfResult
from forge3d_conformance.report.states import Phase, State, Verdict
from forge3d_conformance.report.verdict import judge

DISTRIBUTION = "forge3d-conformance"

_Result = TypeVar("_Result", ClauseResult, MutantResult)


def suite_version() -> str:
    """Return the version of the suite that is installed."""
    return version(DISTRIBUTION)


def begin(
    catalogue: Catalogue,
    backend: BackendIdentity,
    *,
    level: RunLevel,
    seed: int,
    capabilities: Collection[str],
    selection: str = "*",
) -> Report:
    """Return the report of a run that has just begun: nothing run, verdict *incomplete*.

    ``capabilities`` are what the device, its subject and the platform have of the catalogue's. Publish it
    before the first test, so that a run that is killed leaves this behind and nothing else.
    """
    clauses = tuple(_unrun(clause, "the run has not got so far") for clause in catalogue)
    return Report(
        suite_version=suite_version(),
        catalogue_version=catalogue.version,
        catalogue_digest=catalogue.digest,
        phase=Phase.RUNNING,
        started=_now(),
        finished=None,
        backend=backend,
        platform=this_platform(),
        level=level,
        selection=selection,
        seed=seed,
        clauses=clauses,
        mutants=(),
        performance=(),
        totals=tally(clauses),
        verdict=Verdict.INCOMPLETE,
        capabilities=tuple(sorted(capabilities)),
    )


def finish(
    begun: Report,
    catalogue: Catalogue,
    results: Iterable[ClauseResult],
    *,
    suite_digest: str,
    mutants: Iterable[MutantResult] = (),
    performance: Iterable[PerfResult] = (),
) -> Report:
    """Return the report of the finished run.

    ``suite_digest`` is of the tests and mutants that there were to run. ``results`` are of the clauses that
    had one; the rest become *not run*, with the reason. Paths and host names are taken out of all text.
    Raises :class:`ReportError` for a result of a clause that the catalogue lacks or has only planned, for two
    results of one clause, and for a run of no clause.
    """
    found = _by_id(catalogue, results)
    if not any(result.state.tested for result in found.values()):
        raise ReportError(
            f"no clause was tested (selection {begun.selection!r}, level {begun.level}); a run of nothing "
            "proves nothing: widen the selection or see why every test was skipped"
        )
    clauses = tuple(
        found[clause.id]
        if clause.id in found
        else _unrun(clause, _why_unrun(clause, begun.level, begun.selection, catalogue))
        for clause in catalogue
    )
    mutants = tuple(_public(mutant, "reason") for mutant in mutants)
    performance = tuple(performance)
    for id in (*(m.clause for m in mutants), *(p.clause for p in performance)):
        catalogue[id]  # raises for a stranger
    report = attrs.evolve(
        begun,
        phase=Phase.FINISHED,
        finished=_now(),
        clauses=clauses,
        mutants=mutants,
        performance=performance,
        totals=tally(clauses),
        suite_digest=suite_digest,
    )
    return attrs.evolve(report, verdict=judge(catalogue, report).verdict)


def _by_id(catalogue: Catalogue, results: Iterable[ClauseResult]) -> dict[str, ClauseResult]:
    found: dict[str, ClauseResult] = {}
    for result in results:
        clause = catalogue[result.id]
        if result.id in found:
            raise ReportError(f"{result.id} has two results; a clause has one state")
        if not clause.active:
            raise ReportError(f"{result.id} is only planned and cannot have a result; make it active first")
        if result.level != clause.level:
            raise ReportError(f"{result.id} is {clause.level} in the catalogue, not {result.level}")
        retries = {test: tuple(map(redact, said)) for test, said in result.retries.items()}
        result = _public(result, "message", "repro", "reason", "key")
        found[result.id] = attrs.evolve(result, retries=retries)
    return found


def _unrun(clause: Clause, reason: str) -> ClauseResult:
    state = State.NOT_RUN if clause.active else State.PLANNED
    return ClauseResult(clause.id, clause.level, state, reason=reason if clause.active else clause.how)


def _why_unrun(clause: Clause, level: RunLevel, selection: str, catalogue: Catalogue) -> str:
    if clause not in catalogue.select(selection):
        return f"not in the selection {selection!r}"
    if not clause.binding_at(level):
        return f"a clause of level {clause.level}, and the run was at level {level}"
    return "the run ended without a result for it"


def _public(result: _Result, *names: str) -> _Result:
    changes: dict[str, Any] = {}
    for name in names:
        if (text := getattr(result, name)) is not None:
            changes[name] = redact(text)
    return attrs.evolve(result, **changes)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
