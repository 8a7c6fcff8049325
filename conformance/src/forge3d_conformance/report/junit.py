"""The report as JUnit XML, for the systems that read nothing else."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.report.report import Report
from forge3d_conformance.report.results import ClauseResult
from forge3d_conformance.report.states import Phase, State
from forge3d_conformance.report.verdict import judge

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report, catalogue: Catalogue) -> bytes:
    """Return the report as JUnit XML: a suite for each area, a case for each clause.

    A failing clause is a failure; a core clause without an answer is an error; what is unsupported,
    known to fail, planned or left out is skipped and says why. A run that did not finish is an error
    of its own, since JUnit has no word for a run that proves nothing, and so is one that did not show
    what it was to show.
    """
    root = ElementTree.Element("testsuites", name="forge3d-conformance")
    judgement = judge(catalogue, report)
    if report.phase is Phase.RUNNING:
        _error(root, "finished", "the run did not finish")
    elif unproven := judgement.waivers + judgement.open_ends:
        _error(root, "complete", "; ".join(unproven))
    for area in catalogue.areas:
        results = [result for result in report.clauses if result.area == area.name]
        if results:
            _suite(root, area.name, results, report)
    for element in (root, *root):
        cases = list(element.iter("testcase"))
        element.set("tests", str(len(cases)))
        for kind, name in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            element.set(kind, str(sum(case.find(name) is not None for case in cases)))
    ElementTree.indent(root)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _error(root: ElementTree.Element, name: str, message: str) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name="run")
    case = ElementTree.SubElement(suite, "testcase", classname="run", name=name)
    ElementTree.SubElement(case, "error", message=_xml(message))


def _suite(root: ElementTree.Element, area: str, results: list[ClauseResult], report: Report) -> None:
    time = f"{sum(result.seconds for result in results):.3f}"
    suite = ElementTree.SubElement(
        root, "testsuite", name=area, time=time, timestamp=_xml(report.started[:-1])
    )
    for result in results:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{report.backend.name}.{area}",
            name=result.id,
            time=f"{result.seconds:.3f}",
        )
        case.set("classname", _xml(case.get("classname", "")))
        if result.state is not State.PASS:
            _outcome(case, result)


def _outcome(case: ElementTree.Element, result: ClauseResult) -> None:
    if result.state.failing:
        kind = "failure"
    elif result.state is State.INCONCLUSIVE and result.level == "core":
        kind = "error"
    else:
        kind = "skipped"
    said = result.message if result.state.failing else result.reason
    message = _xml(f"{result.state.value.replace('_', ' ')}: {said}")
    ElementTree.SubElement(case, kind, message=message, type=result.state.value)
    if result.repro:
        ElementTree.SubElement(case, "system-out").text = _xml(f"repeat with: {result.repro}")


def _xml(text: str) -> str:
    return _NOT_XML.sub("�", text)
