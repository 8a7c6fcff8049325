"""The page for people: whole, self-contained, and safe whatever the report says."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.report import (
    BackendIdentity,
    ClauseResult,
    MutantResult,
    Outcome,
    PerfResult,
    Report,
    State,
)
from forge3d_conformance.report.html import render

VOID = {"meta", "path", "circle", "line", "rect", "use", "br"}


class Page(HTMLParser):
    """Collects a page's tags, text and ids, and whether its tags close in order."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def shape(self) -> list[tuple[str, frozenset[str]]]:
        """Its tags; where a long name may be broken is no part of it."""
        return [(tag, frozenset(attributes)) for tag, attributes in self.tags if tag != "wbr"]


@pytest.fixture(scope="session")
def full(run: Callable[..., Report], speed: Callable[..., PerfResult], survivor: MutantResult) -> Report:
    """A report in which something of everything happened."""
    killed = MutantResult("stats/drift", "ring.stats", "a stat that drifts", Outcome.KILLED, ("test_stats",))
    apart = MutantResult(
        "lost/asleep", "device.lost", "nobody wakes", Outcome.NOT_APPLICABLE, reason="no loss"
    )
    unrun = MutantResult("stats/late", "ring.stats", "a stat too late", Outcome.NOT_RUN, reason="left out")
    return run(
        {
            "ring.wraps": State.FAIL,
            "ring.stats": State.UNEXPECTED_PASS,
            "device.exit": State.KNOWN_FAILURE,
            "fence.idle-wait": State.INCONCLUSIVE,
            "device.lost": State.UNSUPPORTED,
        },
        mutants=(survivor, killed, apart, unrun),
        performance=(speed(), speed(case="1 GiB", ratio=0.9), speed(case="4 KiB", better="lower")),
    )


def test_the_page_is_well_formed_and_its_links_lead_somewhere(catalogue: Catalogue, full: Report) -> None:
    page = Page(render(full, catalogue))
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for _, a in page.tags if "href" in a}
    assert targets <= {f"#{id}" for id in ids}
    assert {f"#{clause.id}" for clause in catalogue} <= targets


def test_nothing_is_fetched_and_nothing_runs(catalogue: Catalogue, full: Report) -> None:
    html = render(full, catalogue)
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "base", "form"}
    for tag, attributes in page.tags:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert not re.search(rb"url\(|@import|https?://", html)


def test_every_state_is_told_in_words_as_well_as_colour(catalogue: Catalogue, full: Report) -> None:
    text = " ".join("".join(Page(render(full, catalogue)).text).split())
    for word in (
        "failed",
        "passed unexpectedly",
        "known failure",
        "inconclusive",
        "unsupported",
        "not run",
        "planned",
        "Not conformant",
        "1 of 3 mutants killed",
        "Lent to the suite",
        "hold, host_array, host_pressure, ",
        "1 not applicable here",
        "target ≥ 3× met",
        "target ≥ 3× missed",
        "target ≤ 3× missed",
        "raw API 1×",
    ):
        assert word in text


def test_failures_come_with_their_message_and_their_command(catalogue: Catalogue, full: Report) -> None:
    text = "".join(Page(render(full, catalogue)).text)
    assert text.index("expected 1, found 2") < text.index("forge3d conformance --clause this")


def test_the_evidence_of_a_failure_leads_to_what_was_seen(catalogue: Catalogue, full: Report) -> None:
    page = Page(render(full, catalogue))
    links = {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
    assert {"#found-ring.wraps", "#found-ring.stats", "#found-device.exit", "#found-fence.idle-wait"} <= links
    assert "stats/drift" in "".join(page.text)


@pytest.mark.parametrize(
    ("state", "headline"), [(State.PASS, "what was selected holds"), (State.FAIL, "Not conformant")]
)
def test_a_selection_that_holds_is_told_from_one_that_does_not(
    catalogue: Catalogue, run: Callable[..., Report], state: State, headline: str
) -> None:
    text = "".join(Page(render(run({"ring.wraps": state}, selection="ring.*"), catalogue)).text)
    assert headline in text


def test_an_unfinished_run_does_not_look_like_a_pass(catalogue: Catalogue, begun: Report) -> None:
    text = "".join(Page(render(begun, catalogue)).text)
    assert "Incomplete" in text
    assert "proves nothing" in text
    assert "Conformant" not in text


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}&lt;</style></title>-->"


def _said(template: ClauseResult, text: str) -> ClauseResult:
    return attrs.evolve(template, message=text, reason=text, repro=text, key=text, tests=(text,))


def _report(catalogue: Catalogue, run: Callable[..., Report], result: Any, speed: Any, text: str) -> Report:
    identity = BackendIdentity(text, text, text, text, text, text, text)
    results = {
        "ring.wraps": _said(result(catalogue["ring.wraps"], State.FAIL), text),
        "device.exit": _said(result(catalogue["device.exit"], State.KNOWN_FAILURE), text),
        "device.lost": _said(result(catalogue["device.lost"], State.UNSUPPORTED), text),
    }
    mutants = (
        MutantResult(text, "ring.wraps", text, Outcome.SURVIVED, reason=text),
        MutantResult(text + "2", "ring.stats", text, Outcome.KILLED, (text,)),
    )
    measured = (speed(case=text, baseline=text),)
    return run(results=results, mutants=mutants, performance=measured, identity=identity)


def test_hostile_text_stays_text(
    catalogue: Catalogue,
    run: Callable[..., Report],
    result: Callable[..., ClauseResult],
    speed: Callable[..., PerfResult],
) -> None:
    harmless = Page(render(_report(catalogue, run, result, speed, "harmless"), catalogue))
    hostile = Page(render(_report(catalogue, run, result, speed, HOSTILE), catalogue))
    assert hostile.shape() == harmless.shape()
    assert hostile.open == []
    assert "".join(hostile.text).count("<script>alert(1)</script>") > 10


@settings(max_examples=20)  # a page of every kind of text takes some 50 ms
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
def test_no_text_changes_the_shape_of_the_page(
    catalogue: Catalogue,
    run: Callable[..., Report],
    result: Callable[..., ClauseResult],
    speed: Callable[..., PerfResult],
    text: str,
) -> None:
    page = Page(render(_report(catalogue, run, result, speed, text), catalogue))
    harmless = Page(render(_report(catalogue, run, result, speed, "harmless"), catalogue))
    assert page.shape() == harmless.shape()
