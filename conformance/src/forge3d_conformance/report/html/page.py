"""What the page says, made from a report and the catalogue's texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files

import attrs
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from forge3d_conformance.catalogue import Area, Catalogue
from forge3d_conformance.report.canonical import digest_of
from forge3d_conformance.report.html.plots import bars, duration, interval
from forge3d_conformance.report.report import Report
from forge3d_conformance.report.results import ClauseResult
from forge3d_conformance.report.states import Aim, Outcome, State, Verdict
from forge3d_conformance.report.verdict import Judgement, judge

WORDS = {
    State.PASS: "passed",
    State.FAIL: "failed",
    State.UNEXPECTED_PASS: "passed unexpectedly",
    State.KNOWN_FAILURE: "known failure",
    State.INCONCLUSIVE: "inconclusive",
    State.UNSUPPORTED: "unsupported",
    State.NOT_RUN: "not run",
    State.PLANNED: "planned",
}
METERS = (
    (Outcome.KILLED, "pass"),
    (Outcome.SURVIVED, "fail"),
    (Outcome.NOT_RUN, "not_run"),
    (Outcome.NOT_APPLICABLE, "planned"),
)
HEADLINES = {
    Verdict.CONFORMANT: "Conformant",
    Verdict.NONCONFORMANT: "Not conformant",
    Verdict.INCOMPLETE: "Incomplete",
}


@attrs.frozen
class AreaView:
    """One area with the results of its clauses, and how many are in each state."""

    area: Area
    results: tuple[ClauseResult, ...]

    @property
    def counts(self) -> list[tuple[State, int]]:
        counts = [(state, sum(r.state is state for r in self.results)) for state in WORDS]
        return [(state, count) for state, count in counts if count]


@attrs.frozen
class UntestedGroup:
    """Clauses that were not tested for one and the same reason."""

    state: State
    reason: str
    results: tuple[ClauseResult, ...]


def render(report: Report, catalogue: Catalogue) -> bytes:
    """Return the report as one HTML page without scripts or anything to be fetched.

    All text of the report is escaped.
    """
    judgement = judge(catalogue, report)
    failures = report.in_state(State.FAIL, State.UNEXPECTED_PASS)
    doubtful = report.in_state(State.KNOWN_FAILURE, State.INCONCLUSIVE)
    text = (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            catalogue=catalogue,
            judgement=judgement,
            headline=_headline(report, judgement),
            digest=digest_of(report),
            took=_took(report),
            areas=_areas(report, catalogue),
            failures=failures,
            doubtful=doubtful,
            findings=(*failures, *doubtful),
            untested=_untested(report.in_state(State.UNSUPPORTED, State.NOT_RUN, State.PLANNED)),
            State=State,
            Outcome=Outcome,
            Aim=Aim,
            words=WORDS,
            meters=METERS,
            unspoken=[*catalogue.unspoken(report.level)],
        )
    )
    return text.encode("utf-8")


def _headline(report: Report, judgement: Judgement) -> str:
    if judgement.left_out and judgement.reasons == judgement.left_out:
        return "Incomplete: what was selected holds"
    return HEADLINES[report.verdict]


def _breakable(name: str) -> Markup:
    """Return a name that a narrow column may break behind its underscores and dots, and nowhere else."""
    return Markup("").join(
        Markup("{}<wbr/>").format(part) if part in ("_", ".") else part for part in re.split("([_.])", name)
    )


def _areas(report: Report, catalogue: Catalogue) -> list[AreaView]:
    views = [
        AreaView(area, tuple(r for r in report.clauses if r.area == area.name)) for area in catalogue.areas
    ]
    return [view for view in views if view.results]


def _untested(results: Sequence[ClauseResult]) -> list[UntestedGroup]:
    groups: dict[tuple[State, str], list[ClauseResult]] = {}
    for result in results:
        groups.setdefault((result.state, result.reason or ""), []).append(result)
    order = [State.UNSUPPORTED, State.NOT_RUN, State.PLANNED]
    return sorted(
        (UntestedGroup(*key, tuple(members)) for key, members in groups.items()),
        key=lambda group: order.index(group.state),
    )


def _took(report: Report) -> str | None:
    if report.finished is None:
        return None
    try:
        seconds = datetime.fromisoformat(report.finished) - datetime.fromisoformat(report.started)
    except ValueError:
        return None
    return str(seconds)


@cache
def _environment() -> Environment:
    folder = files("forge3d_conformance.report.html")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        interval=interval, bars=bars, duration=duration, words=WORDS.__getitem__, breakable=_breakable
    )
    return environment
