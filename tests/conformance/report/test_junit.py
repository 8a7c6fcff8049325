"""The report for the systems that read nothing but JUnit XML."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.report import ClauseResult, Report, State
from forge3d_conformance.report.junit import junit


def _cases(data: bytes) -> dict[str, ElementTree.Element]:
    return {case.get("name", ""): case for case in ElementTree.fromstring(data).iter("testcase")}


def test_every_clause_is_a_case_and_the_counts_agree(
    catalogue: Catalogue, run: Callable[..., Report]
) -> None:
    report = run({"ring.wraps": State.FAIL, "device.lost": State.UNSUPPORTED})
    data = junit(report, catalogue)
    root = ElementTree.fromstring(data)
    assert list(_cases(data)) == [clause.id for clause in catalogue]
    assert [suite.get("name") for suite in root] == [area.name for area in catalogue.areas]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (str(len(catalogue)), "1", "0")
    assert int(root.get("skipped", "")) == len(catalogue) - 1 - report.totals["pass"]
    for name in ("tests", "failures", "errors", "skipped"):
        assert sum(int(suite.get(name, "")) for suite in root) == int(root.get(name, ""))


@pytest.mark.parametrize(
    ("state", "child"),
    [
        (State.PASS, None),
        (State.FAIL, "failure"),
        (State.UNEXPECTED_PASS, "failure"),
        (State.INCONCLUSIVE, "error"),
        (State.UNSUPPORTED, "skipped"),
        (State.KNOWN_FAILURE, "skipped"),
        (State.NOT_RUN, "skipped"),
    ],
)
def test_each_state_has_its_element(
    catalogue: Catalogue, run: Callable[..., Report], state: State, child: str | None
) -> None:
    case = _cases(junit(run({"device.lost": state}), catalogue))["device.lost"]
    found = {element.tag for element in case} - {"system-out"}
    assert found == ({child} if child else set())


def test_an_unfinished_run_is_an_error(catalogue: Catalogue, begun: Report) -> None:
    data = junit(begun, catalogue)
    assert ElementTree.fromstring(data).get("errors") == "1"
    assert _cases(data)["finished"].find("error") is not None


def test_a_run_that_did_not_show_what_it_was_to_show_is_an_error(
    catalogue: Catalogue, run: Callable[..., Report]
) -> None:
    for report, said in (
        (run(lacking=("hold",)), "hold is not lent"),
        (run({"ring.wraps": State.UNSUPPORTED}), "lacks nothing that it requires"),
    ):
        error = _cases(junit(report, catalogue))["complete"].find("error")
        assert error is not None
        assert said in (error.get("message") or "")
    assert "complete" not in _cases(junit(run(selection="ring.*"), catalogue))


@given(st.text(min_size=1))
def test_whatever_a_failure_says_the_xml_is_well_formed(
    catalogue: Catalogue,
    run: Callable[..., Report],
    result: Callable[..., ClauseResult],
    text: str,
) -> None:
    failure = result(catalogue["ring.wraps"], State.FAIL, message=text, repro=text)
    case = _cases(junit(run(results={"ring.wraps": failure}), catalogue))["ring.wraps"]
    assert case.find("failure") is not None
