"""A parent believes its run's end only as far as the run told of it before."""

from __future__ import annotations

from typing import Any

import pytest

from forge3d_conformance.running import Ran, Recount

BEGIN = {"event": "begin", "tests": 1}
START = {"event": "start", "clause": "ring.wraps", "mutant": None}
PASS = {"event": "test", "clause": "ring.wraps", "mutant": None, "ending": "pass"}
FAIL = {**PASS, "ending": "fail"}
END = {"event": "end", "holds": True, "clauses": [{"id": "ring.wraps", "state": "pass"}]}


@pytest.mark.parametrize(
    ("events", "doubt"),
    [
        ([BEGIN, START, PASS], ""),
        ([BEGIN, PASS], "was to begin 1 tests and told of 0"),
        ([BEGIN, START], "told of no pass"),
        ([BEGIN, START, PASS, FAIL], "or of a failure"),
        ([], "told of no pass"),
    ],
)
def test_an_end_has_to_follow_from_what_was_told(events: list[dict[str, Any]], doubt: str) -> None:
    recount, heard = Recount(), list[Any]()
    tell = recount.then(heard.append)
    for event in events:
        tell(event)
    assert heard == events
    said = recount.doubt(END)
    assert doubt in said if doubt else not said
    assert Ran(0, END, "", "", "", said).holds is not bool(said)
