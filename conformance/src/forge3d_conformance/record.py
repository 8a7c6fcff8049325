"""From what single tests did to what became of clauses and mutants."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from forge3d_conformance.catalogue import Clause
from forge3d_conformance.mutants import Mutant
from forge3d_conformance.report import ClauseResult, MutantResult, Outcome, PerfResult, State
from forge3d_conformance.subject import INDISPENSABLE, KnownFailure, excuse

Teardown = Literal["pass", "fail", "unsupported", "inconclusive"]


@attrs.frozen
class Record:
    """How one test ended. ``message`` is ``ErrorType: message`` of a failure, ``reason`` of anything else.

    ``retries`` says why each earlier attempt did not count. ``trace`` is the smallest failing case that
    hypothesis found, ``example`` what it needs to run it again.
    """

    clause: str
    test: str
    ending: Teardown
    mutant: str | None = None
    seconds: float = 0.0
    examples: int = 0
    message: str | None = None
    reason: str | None = None
    trace: str | None = None
    example: str | None = None
    retries: tuple[str, ...] = ()
    performance: tuple[PerfResult, ...] = ()
    lacking: tuple[str, ...] = ()
    """What a test that could not run needs and nobody lends."""

    def told_of(self) -> dict[str, Any]:
        """Return what another process is told of it: all but what was measured."""
        return {name: getattr(self, name) for name in _TOLD}

    @classmethod
    def told(cls, event: Mapping[str, Any]) -> Record:
        """Return the record of which another process told in an event."""
        told: dict[str, Any] = {name: event[name] for name in _TOLD}
        told.update({name: tuple(told[name]) for name in ("retries", "lacking")})
        return cls(**told)


_TOLD = tuple(field.name for field in attrs.fields(Record) if field.name != "performance")


def clause_result(
    clause: Clause,
    expected: Sequence[str],
    records: Sequence[Record],
    *,
    known: Sequence[KnownFailure],
    key: str,
    repro: str,
) -> ClauseResult:
    """Return what became of a clause of whose tests ``expected`` were to run.

    One failure fails the clause, unless every one is a ``known`` failure; a test that did not run, also
    for want of what every backend can lend, leaves it *not run*; it passes when some test passed and the
    rest passed or could not be supported.
    """
    by_ending = {
        ending: [record for record in records if record.ending == ending]
        for ending in ("pass", "fail", "unsupported", "inconclusive")
    }
    missing = [test for test in expected if test not in {record.test for record in records}]
    ran = [record for record in records if record.ending != "unsupported"]
    message = reason = None
    if failed := by_ending["fail"]:
        excuses = [excuse(known, record.message) for record in failed]
        state = State.KNOWN_FAILURE if all(excuses) else State.FAIL
        message = "\n".join(map(_told, failed))
        reason = "; ".join(dict.fromkeys(text for text in excuses if text)) or None
        if known and not all(excuses):
            message += f"\nThis is another failure than {_declared(known)}, which is declared."
    elif missing:
        state = State.NOT_RUN
        reason = f"{len(missing)} of its {len(expected)} tests did not run, {missing[0]} among them"
    elif doubtful := by_ending["inconclusive"]:
        state, reason = State.INCONCLUSIVE, doubtful[0].reason
    elif by_ending["pass"] and (starved := [r for r in by_ending["unsupported"] if _starved(r)]):
        state = State.NOT_RUN
        reason = f"{len(starved)} of its {len(expected)} tests did not run: {starved[0].reason}"
    elif by_ending["pass"] and known:
        state = State.UNEXPECTED_PASS
        message = f"declared a known failure ({known[0].reason}), and it passed; drop the declaration"
    elif by_ending["pass"]:
        state = State.PASS
        told = (*by_ending["pass"], *by_ending["unsupported"])
        reason = "; ".join(dict.fromkeys(record.reason for record in told if record.reason)) or None
    else:
        state, reason = State.UNSUPPORTED, by_ending["unsupported"][0].reason
    return ClauseResult(
        clause.id,
        clause.level,
        state,
        tests=tuple(record.test for record in ran),
        examples=sum(record.examples for record in records),
        seconds=round(sum(record.seconds for record in records), 3),
        message=message,
        repro=repro if state.failing or state is State.KNOWN_FAILURE else None,
        reason=reason,
        key=key if state is State.KNOWN_FAILURE else None,
        retries={record.test: record.retries for record in ran if record.retries},
    )


def _starved(record: Record) -> bool:
    return not INDISPENSABLE.keys().isdisjoint(record.lacking)


def _declared(known: Sequence[KnownFailure]) -> str:
    return " or ".join(repr(failure.because.pattern) for failure in known)


def _told(record: Record) -> str:
    told = f"{record.test}: {record.message}"
    return f"{told}\n{textwrap.indent(record.trace, '    ')}" if record.trace else told


def kills(mutant: Mutant, record: Record) -> bool:
    """Whether the test failed for the reason that this mutant's defect gives it."""
    own = record.clause == mutant.breaks
    return own and record.ending == "fail" and bool(mutant.because.search(record.message or ""))


def mutant_result(mutant: Mutant, expected: Sequence[str], records: Sequence[Record]) -> MutantResult:
    """Return what became of a mutant, on which all of ``expected`` were to run unless one kills it.

    A failure for another reason than its own does not kill it.
    """
    killers = tuple(dict.fromkeys(record.test for record in records if kills(mutant, record)))
    missing = [test for test in expected if test not in {record.test for record in records}]
    reason: str | None = None
    if killers:
        outcome = Outcome.KILLED
    elif missing or not records:
        outcome = Outcome.NOT_RUN
        reason = f"{len(missing)} of the {len(expected)} tests of its clause did not run on it"
    elif all(record.ending == "unsupported" for record in records):
        outcome, reason = Outcome.NOT_APPLICABLE, records[0].reason
    else:
        outcome = Outcome.SURVIVED
        other = next((record.message for record in records if record.ending == "fail"), None)
        doubt = next((record.reason for record in records if record.ending == "inconclusive"), None)
        reason = (
            f"failed for another reason than {mutant.because.pattern!r}: {other}"
            if other
            else doubt or "every test of its clause passed"
        )
    return MutantResult(mutant.name, mutant.breaks, mutant.about, outcome, killers, reason)
