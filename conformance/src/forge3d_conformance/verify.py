"""Whether a report may be believed, and what it proves: offline, from its bytes and what the suite has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError
from forge3d_conformance.evidence import evidence_defects
from forge3d_conformance.inventory import Inventory
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

UTC_SECONDS = "%Y-%m-%dT%H:%M:%SZ"

MAX_JOBS = 256
"""Processes that ``--jobs`` lets a run have, whose tests together may take so much longer than it."""

CLOCKS = timedelta(hours=1)
"""By how much two machines' clocks may differ."""


@attrs.frozen
class Verification:
    """``defects`` say why a report is not to be believed; without any, ``judgement`` says what it proves."""

    report: Report | None
    defects: tuple[str, ...]
    judgement: Judgement | None

    @property
    def sound(self) -> bool:
        return not self.defects

    @property
    def conformant(self) -> bool:
        return self.judgement is not None and self.sound and self.judgement.verdict is Verdict.CONFORMANT


def verify(data: bytes, catalogue: Catalogue, inventory: Inventory) -> Verification:
    """Check the bytes of a report; never raises for a bad one.

    Checked are the schema, the canonical form and the digest; that the report was made with this suite
    and this catalogue; that it holds exactly the catalogue's clauses, each tested by this suite's tests
    if its selection has it and by none if not; that its mutants are this suite's, all or none; its times
    and its sums; and that the verdict follows from the results. What cannot be checked offline is
    whether the tests ran: a digest is no signature.
    """
    try:
        report = parse(data)
    except ReportError as error:
        return Verification(None, (str(error),), None)
    judgement = judge(catalogue, report)
    return Verification(report, tuple(_defects(report, catalogue, inventory, judgement)), judgement)


def _defects(
    report: Report, catalogue: Catalogue, inventory: Inventory, judgement: Judgement
) -> Iterator[str]:
    if (report.catalogue_version, report.catalogue_digest) != (catalogue.version, catalogue.digest):
        yield (
            f"made with catalogue {report.catalogue_version} ({report.catalogue_digest[:12]}), and this "
            f"suite has {catalogue.version} ({catalogue.digest[:12]}); verify it with forge3d-conformance "
            f"{report.suite_version}"
        )
        return
    if report.suite_version != suite_version() or report.suite_digest not in (None, inventory.digest):
        yield (
            f"made with forge3d-conformance {report.suite_version} ({(report.suite_digest or '')[:12]}), and "
            f"this is {suite_version()} ({inventory.digest[:12]}), with other tests and mutants; verify it "
            "with the one that made it"
        )
        return
    yield from _time_defects(report)
    yield from _clause_defects(report, catalogue)
    yield from evidence_defects(report, catalogue, inventory)
    yield from _reference_defects(report, catalogue)
    if report.totals != (counted := tally(report.clauses)):
        yield f"the totals say {_sums(report.totals)}; the clauses are {_sums(counted)}"
    if (total := sum(report.totals.values())) != len(catalogue):
        yield f"the totals sum to {total}, and the catalogue has {len(catalogue)} clauses"
    if report.verdict is not judgement.verdict:
        yield f"the verdict says {report.verdict.value}; the results prove {judgement.verdict.value}"


def _time_defects(report: Report) -> Iterator[str]:
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
        if report.finished and tested > MAX_JOBS * (lasted + 2):
            yield f"the tests took {tested:.0f} s, and the run {lasted:.0f} s"
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
