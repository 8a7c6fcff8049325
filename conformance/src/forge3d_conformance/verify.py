"""Whether a report may be believed, and what it proves: offline, from its bytes and the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import Judgement, Phase, Report, State, Verdict, judge, parse, tally


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


def verify(data: bytes, catalogue: Catalogue) -> Verification:
    """Check the bytes of a report; never raises for a bad one.

    Checked are the schema, the canonical form and the digest, that the report was made with this
    catalogue and holds exactly its clauses, that the sums are right, and that the verdict follows from
    the results. What cannot be checked offline is whether the tests ran: a digest is no signature.
    """
    try:
        report = parse(data)
    except ReportError as error:
        return Verification(None, (str(error),), None)
    judgement = judge(catalogue, report.level, report.phase, report.clauses, report.mutants)
    return Verification(report, tuple(_defects(report, catalogue, judgement)), judgement)


def _defects(report: Report, catalogue: Catalogue, judgement: Judgement) -> Iterator[str]:
    if (report.catalogue_version, report.catalogue_digest) != (catalogue.version, catalogue.digest):
        yield (
            f"made with catalogue {report.catalogue_version} ({report.catalogue_digest[:12]}), and this "
            f"suite has {catalogue.version} ({catalogue.digest[:12]}); verify it with forge3d-conformance "
            f"{report.suite_version}"
        )
        return
    yield from _clause_defects(report, catalogue)
    yield from _reference_defects(report, catalogue)
    if (report.finished is None) != (report.phase is Phase.RUNNING):
        yield f"the run is {report.phase.value}, and its end is {report.finished}"
    if report.totals != (counted := tally(report.clauses)):
        yield f"the totals say {_sums(report.totals)}; the clauses are {_sums(counted)}"
    if (total := sum(report.totals.values())) != len(catalogue):
        yield f"the totals sum to {total}, and the catalogue has {len(catalogue)} clauses"
    if report.verdict is not judgement.verdict:
        yield f"the verdict says {report.verdict.value}; the results prove {judgement.verdict.value}"


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
