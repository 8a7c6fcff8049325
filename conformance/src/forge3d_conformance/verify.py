"""Whether a report may be believed, and what it proves: offline, from its bytes and what the suite has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError
from forge3d_conformance.evidence import evidence_defects
from forge3d_conformance.inventory import Inventory
from forge3d_conformance.plugin import MAX_JOBS
from forge3d_conformance.report import (
    Judgement,
    Phase,
    Report,
    State,
    Verdict,
    judge,
    parse,
    suite_version,
    tally,
)
from forge3d_conformance.staleness import still_speaking

UTC_SECONDS = "%Y-%m-%dT%H:%M:%SZ"

ROUNDED = 0.0005
"""Seconds that rounding may have added to what a clause took."""

CLOCKS = timedelta(hours=1)
"""By how much two machines' clocks may differ."""


@attrs.frozen
class Verification:
    """``defects`` say why a report is not to be believed; without any, ``judgement`` says what it proves.

    ``stale`` are the clauses on which its word no longer counts, for they or their tests have changed.
    """

    report: Report | None
    defects: tuple[str, ...]
    judgement: Judgement | None
    stale: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.defects

    @property
    def conformant(self) -> bool:
        return self.judgement is not None and self.sound and self.judgement.verdict is Verdict.CONFORMANT


def verify(data: bytes, catalogue: Catalogue, inventory: Inventory) -> Verification:
    """Check the bytes of a report; never raises for a bad one.

    Checked are the schema, the canonical form and the digest; that it holds the catalogue's clauses, each
    tested by this suite's tests if its selection has it and by none if not; that its mutants are this
    suite's, all or none; its times and its sums; and that the verdict follows from the results. Of a report
    that was made before a clause or its tests changed, that clause is stale, as if it had not been run, and
    the rest is judged as it stands. What cannot be checked offline is whether the tests ran: a digest is
    no signature.
    """
    try:
        report = parse(data)
    except ReportError as error:
        return Verification(None, (str(error),), None)
    same = report.catalogue_digest == catalogue.digest and report.suite_digest in (None, inventory.digest)
    current, stale = (report, ()) if same else still_speaking(report, catalogue, inventory)
    judgement = judge(catalogue, current)
    defects = (
        *_defects(report, catalogue, judgement, same=same),
        *_digest_defects(current, catalogue, inventory),
        *evidence_defects(current, catalogue, inventory, stale),
        *_reference_defects(current, catalogue),
    )
    return Verification(report, defects, judgement, stale)


def _defects(report: Report, catalogue: Catalogue, judgement: Judgement, *, same: bool) -> Iterator[str]:
    if report.suite_version != suite_version() or report.catalogue_version != catalogue.version:
        yield (
            f"made with forge3d-conformance {report.suite_version} and catalogue {report.catalogue_version}, "
            f"and this is {suite_version()} with {catalogue.version}; verify it with the one that made it"
        )
    yield from _time_defects(report)
    if len({result.id for result in report.clauses}) < len(report.clauses):
        yield "a clause stands there twice"
    if report.totals != (counted := tally(report.clauses)):
        yield f"the totals say {_sums(report.totals)}; the clauses are {_sums(counted)}"
    if not same:
        failed = any(result.state.failing for result in report.clauses)
        if failed and report.verdict is not Verdict.NONCONFORMANT:
            yield f"the verdict says {report.verdict.value}, and clauses fail"
        return
    yield from _clause_defects(report, catalogue)
    if (total := sum(report.totals.values())) != len(catalogue):
        yield f"the totals sum to {total}, and the catalogue has {len(catalogue)} clauses"
    if report.verdict is not judgement.verdict:
        yield f"the verdict says {report.verdict.value}; the results prove {judgement.verdict.value}"


def _digest_defects(report: Report, catalogue: Catalogue, inventory: Inventory) -> Iterator[str]:
    for result in report.clauses:
        known = result.digest is None or result.id not in catalogue
        if not known and result.digest != inventory.digest_of(catalogue[result.id]):
            yield f"{result.id} was tested with other tests than this suite's"


def _time_defects(report: Report) -> Iterator[str]:
    if report.jobs > MAX_JOBS:
        yield f"a run has {MAX_JOBS} processes at most, not {report.jobs}"
    if (report.finished is None) != (report.phase is Phase.RUNNING):
        yield f"the run is {report.phase.value}, and its end is {report.finished}"
    times = [time for time in (report.started, report.finished) if time is not None]
    try:
        read = [datetime.strptime(time, UTC_SECONDS) for time in times]
    except ValueError as error:
        yield f"a time is UTC, to the second: {error}"
    else:
        now = datetime.now(UTC).replace(tzinfo=None)
        if read and max(read) > now + CLOCKS:
            yield f"the run was at {max(read)}, and by this machine's clock it is {now:%Y-%m-%d %H:%M:%S} UTC"
        tested = sum(result.seconds for result in report.clauses)
        lasted = (read[-1] - read[0]).total_seconds() if read else 0.0
        longest = report.jobs * (lasted + 1)  # as both times are whole seconds
        if report.finished and tested > longest + ROUNDED * len(report.clauses):
            yield f"the tests took {tested:.0f} s, and the run {lasted:.0f} s in {report.jobs} processes"
        if read != sorted(read):
            yield f"the run ended at {report.finished}, before it began at {report.started}"


def _clause_defects(report: Report, catalogue: Catalogue) -> Iterator[str]:
    ids = [result.id for result in report.clauses]
    expected = [clause.id for clause in catalogue]
    if ids != expected:
        missing, strange = sorted(set(expected) - set(ids)), sorted(set(ids) - set(expected))
        what = [f"missing: {', '.join(missing)}"] if missing else []
        what += [f"not in the catalogue: {', '.join(strange)}"] if strange else []
        yield f"the clauses are not the catalogue's ({'; '.join(what) or 'repeated or out of order'})"
    for result in report.clauses:
        if result.id not in catalogue:
            continue
        clause = catalogue[result.id]
        if result.level != clause.level:
            yield f"{clause.id} is a {clause.level} clause, and the report calls it {result.level}"
        if (result.state is State.PLANNED) == clause.active:
            yield f"{clause.id} is {clause.status}, and the report calls it {result.state.value}"


def _reference_defects(report: Report, catalogue: Catalogue) -> Iterator[str]:
    for kind, names in (
        ("mutant", [(m.id, m.clause) for m in report.mutants]),
        ("measurement", [(f"{p.clause} ({p.case})", p.clause) for p in report.performance]),
    ):
        seen: set[str] = set()
        for name, clause in names:
            if clause not in catalogue:
                yield f"{kind} {name} names {clause}, which is no clause of the catalogue"
            if name in seen:
                yield f"{kind} {name} stands there twice"
            seen.add(name)


def _sums(totals: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in totals.items() if count) or "none"
