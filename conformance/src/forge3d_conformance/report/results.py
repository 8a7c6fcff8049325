"""What a run found out about one clause, one mutant, one speed target."""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs

from forge3d_conformance.catalogue import Level
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report.states import Aim, Outcome, State


def _count(instance: Any, attribute: attrs.Attribute[Any], value: int) -> None:
    if value < 0:
        raise ReportError(f"{attribute.name} is a count, not {value}")


def _positive(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ReportError(f"{attribute.name} of {instance.clause} is a positive number, not {value}")


@attrs.frozen
class ClauseResult:
    """One clause's state and the evidence for it.

    ``tests``: names of the tests that ran; ``retries``: by the name of a test that was tried again, what
    each earlier attempt said; ``examples``: how many cases or assertions they tried.
    ``message``: what went wrong; ``repro``: one command that repeats just this. ``reason``: why it is
    unsupported, known to fail, inconclusive or not run; ``key``: the declaration that makes it a known
    failure; ``digest``: of its tests as they were then. Raises :class:`ReportError` where a state lacks
    its evidence: a pass without a test, a failure without a message, anything else without a reason.
    """

    id: str
    level: Level
    state: State
    tests: tuple[str, ...] = ()
    examples: int = attrs.field(default=0, validator=_count)
    seconds: float = attrs.field(default=0.0, converter=float)
    message: str | None = None
    repro: str | None = None
    reason: str | None = None
    key: str | None = None
    retries: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    digest: str | None = None

    def __attrs_post_init__(self) -> None:
        if not self.retries.keys() <= set(self.tests) or not all(self.retries.values()):
            raise ReportError(f"{self.id} was tried again by a test that did not run, or for no reason")
        if self.state.tested and not self.tests:
            raise ReportError(f"{self.id} is said to {self.state.value} and names no test that ran")
        if self.state.failing and not self.message:
            raise ReportError(f"{self.id} failed and does not say how")
        reasoned = {State.UNSUPPORTED, State.KNOWN_FAILURE, State.INCONCLUSIVE, State.NOT_RUN}
        if self.state in reasoned and not self.reason:
            raise ReportError(f"{self.id} is {self.state.value} and gives no reason")
        if self.state is State.KNOWN_FAILURE and not self.key:
            raise ReportError(f"{self.id} is a known failure and does not say of which backend and adapter")
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ReportError(f"{self.id} took {self.seconds} seconds, which is no time")

    @property
    def area(self) -> str:
        return self.id.partition(".")[0]


@attrs.frozen
class MutantResult:
    """What became of one mutant: a defect laid over the backend, which ``clause`` must catch."""

    id: str
    clause: str
    defect: str
    outcome: Outcome
    killed_by: tuple[str, ...] = ()
    reason: str | None = None

    def __attrs_post_init__(self) -> None:
        if (self.outcome is Outcome.KILLED) != bool(self.killed_by):
            raise ReportError(f"mutant {self.id} is {self.outcome.value} by {len(self.killed_by)} tests")
        if self.outcome in (Outcome.NOT_APPLICABLE, Outcome.NOT_RUN) and not self.reason:
            raise ReportError(f"mutant {self.id} is {self.outcome.value} and gives no reason")


@attrs.frozen
class PerfResult:
    """One speed target: the ratio of ours to the raw API, with its confidence interval.

    ``ratio`` is the median, ``low`` and ``high`` the ends of its interval; ``ours_seconds`` and
    ``raw_seconds`` are medians of the same interleaved run, ``baseline`` what the raw side was.
    ``better`` says which way the ratio should go from ``target``. ``aim`` follows from the interval:
    met or missed when all of it lies on one side of the target, inconclusive otherwise.
    """

    clause: str
    case: str
    baseline: str
    ratio: float = attrs.field(converter=float, validator=_positive)
    low: float = attrs.field(converter=float, validator=_positive)
    high: float = attrs.field(converter=float, validator=_positive)
    target: float = attrs.field(converter=float, validator=_positive)
    ours_seconds: float = attrs.field(converter=float, validator=_positive)
    raw_seconds: float = attrs.field(converter=float, validator=_positive)
    samples: int = attrs.field(validator=attrs.validators.ge(1))
    better: Literal["higher", "lower"] = "higher"
    aim: Aim = attrs.field()

    @aim.default
    def _aim(self) -> Aim:
        if self.better == "higher":
            met, missed = self.low >= self.target, self.high < self.target
        else:
            met, missed = self.high <= self.target, self.low > self.target
        return Aim.MET if met else Aim.MISSED if missed else Aim.INCONCLUSIVE

    def __attrs_post_init__(self) -> None:
        if not self.low <= self.ratio <= self.high:
            raise ReportError(
                f"{self.clause} ({self.case}): the median {self.ratio} lies outside its interval "
                f"{self.low} to {self.high}"
            )
        if self.aim is not self._aim():
            raise ReportError(
                f"{self.clause} ({self.case}): its interval against its target says {self._aim().value}, "
                f"not {self.aim.value}"
            )
