"""One test of a run, from its collection to how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis.errors import DidNotReproduce

from forge3d_conformance.bench import Bench
from forge3d_conformance.control import controlled
from forge3d_conformance.mutants import Mutant
from forge3d_conformance.record import Record, Teardown, kills
from forge3d_conformance.repeat import Example
from forge3d_conformance.violation import Inconclusive, Tardy, described, leaves

ATTEMPTS = 3
"""How often a test is tried whose conditions did not hold or which was late, mutant or not."""

RUN_SECONDS = {"core": 900.0, "full": 5400.0, "perf": 3600.0}
"""After this long no further test is begun at that level, but for mutants: a run ends though waits hang."""

SOUND = "sound"
"""The case of a test without a mutant, under self-test."""

ALREADY = "already killed"
"""Why a test is skipped whose mutant another test has killed."""


@attrs.define(eq=False)
class ClauseRun:
    """A test of ``clause``, on the backend alone or on ``mutant``."""

    clause: str
    requires: tuple[str, ...]
    name: str
    """The test's name with its own parameters, without the mutant's."""
    mutant: Mutant | None
    bench: Bench | None = None
    record: Record | None = None
    _retries: list[str] = attrs.field(factory=list)

    @classmethod
    def enlist(cls, item: pytest.Item, clause: str, requires: tuple[str, ...]) -> ClauseRun:
        """Make the trial of a collected test, and leave it where :meth:`of` finds it."""
        callspec = getattr(item, "callspec", None)
        mutant: Mutant | None = callspec.params.get("mutant") if callspec else None
        laid = mutant.name if mutant else SOUND
        name = getattr(item, "originalname", None) or item.name
        case = callspec.id if callspec else ""
        case = "" if case == laid else case.removesuffix(f"-{laid}").removeprefix(f"{laid}-")
        trial = item.stash[_TRIAL] = cls(clause, requires, f"{name}[{case}]" if case else name, mutant)
        return trial

    @classmethod
    def of(cls, item: pytest.Item) -> ClauseRun | None:
        """Return the trial that a test is, if it tests a clause."""
        return item.stash.get(_TRIAL, None)

    @property
    def killed(self) -> bool:
        """Whether this test has killed its mutant."""
        return bool(self.mutant and self.record and kills(self.mutant, self.record))

    def attempt(self, test: Callable[[], object]) -> None:
        """Run the test, and again on a fresh bench while it is in doubt and may be tried once more."""
        self._retries.clear()
        while True:
            try:
                with controlled(replay=bool(self.bench and self.bench.example)):
                    test()
                return
            except DidNotReproduce as error:
                if "completed successfully" not in str(error):  # else the example is of another test
                    raise
                return
            except BaseException as error:
                doubts = [leaf for leaf in leaves(error) if isinstance(leaf, (Inconclusive, Tardy))]
                if self.bench is None or not doubts or len(self._retries) == ATTEMPTS - 1:
                    raise
                self._retries.append(described(doubts[0]))
                self.bench.renew()

    def unsupported(self, reason: str, lacking: tuple[str, ...]) -> None:
        """Note that the test cannot run here, why, and what it lacks."""
        self.record = self._ended("unsupported", reason=reason, lacking=lacking)

    def cut(self, reason: str) -> None:
        """Note that the test was not begun, and why: nothing is known."""
        self.record = self._ended("inconclusive", reason=reason)

    def judge(self, call: pytest.CallInfo[None], report: pytest.TestReport) -> Record | None:
        """Note how the test ended and return it, if this phase decides it."""
        record = self._judged(call, report)
        if record is not None:
            self.record = record
        return record

    def _judged(self, call: pytest.CallInfo[None], report: pytest.TestReport) -> Record | None:
        if call.excinfo is None:
            cuts = "; ".join(self.bench.cuts) if self.bench else ""
            passed = report.when == "call"
            return self._ended("pass", seconds=call.duration, reason=cuts or None) if passed else None
        error = call.excinfo.value
        if report.skipped and report.when == "setup" and (self.record or str(error) == ALREADY):
            return None
        if report.when == "teardown" and (self.mutant or (self.record and self.record.ending == "fail")):
            return None
        found = list(leaves(error))
        for leaf in found:
            if isinstance(leaf, Inconclusive):
                return self._ended("inconclusive", seconds=call.duration, reason=str(leaf))
        raised = {id(each): each for each in (error, *found)}.values()
        notes = [note for each in raised for note in getattr(each, "__notes__", ())]
        example = Example.found_in(notes)
        return self._ended(
            "fail",
            seconds=call.duration,
            message="; ".join(dict.fromkeys(described(leaf) for leaf in found)),
            trace="\n".join(note for note in notes if "reproduce_failure" not in note) or None,
            example=str(example) if example else None,
        )

    def _ended(self, ending: Teardown, **more: Any) -> Record:
        return Record(
            self.clause,
            self.name,
            ending,
            mutant=self.mutant.name if self.mutant else None,
            examples=self.bench.examples if self.bench else 0,
            retries=tuple(self._retries),
            performance=tuple(self.bench.performance) if self.bench else (),
            **more,
        )


_TRIAL: pytest.StashKey[ClauseRun] = pytest.StashKey()
