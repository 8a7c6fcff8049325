"""The document keeps the rules of Chrome's trace event format."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from forge3d_core.device.device import AssembledDevice
from tests.trace.test_trace import work


@pytest.fixture
def document(device: AssembledDevice, tmp_path: Path) -> dict[str, Any]:
    with device.trace() as trace:
        for _ in range(3):
            work(device)
    trace.save(tmp_path / "t.json")
    return dict(json.loads((tmp_path / "t.json").read_text()))


def test_every_event_has_what_its_phase_asks_for(document: dict[str, Any]) -> None:
    assert document["displayTimeUnit"] == "ms"
    assert {event["ph"] for event in document["traceEvents"]} == {"M", "X", "b", "e", "s", "f", "i"}
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] in "bes":
            assert event["id"]
            assert event["cat"]
        if event["ph"] == "f":
            assert event["bp"] == "e"


def test_every_track_has_a_name(document: dict[str, Any]) -> None:
    named = {
        (event["pid"], event["tid"]) for event in document["traceEvents"] if event["name"] == "thread_name"
    }
    processes = {event["pid"] for event in document["traceEvents"] if event["name"] == "process_name"}
    for event in document["traceEvents"]:
        assert event["pid"] in processes
        if event["ph"] in "Xsfi":
            assert (event["pid"], event["tid"]) in named


def test_slices_of_a_track_nest(document: dict[str, Any]) -> None:
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in document["traceEvents"]:
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in tracks.values():
        open_until: list[float] = []
        for begun, ended in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_until and open_until[-1] <= begun + 0.002:
                open_until.pop()
            assert not open_until or ended <= open_until[-1] + 0.002
            open_until.append(ended)


def test_blocks_begin_and_end_in_turn(document: dict[str, Any]) -> None:
    under_way: dict[tuple[int, str], float] = {}
    seen = 0
    for event in document["traceEvents"]:
        if event["ph"] == "b":
            assert (event["pid"], event["id"]) not in under_way
            under_way[event["pid"], event["id"]] = event["ts"]
        elif event["ph"] == "e":
            assert under_way.pop((event["pid"], event["id"])) <= event["ts"]
            seen += 1
    assert not under_way
    assert seen


def test_arrows_lead_from_a_submission_to_its_work_and_to_its_wait(document: dict[str, Any]) -> None:
    arrows: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for event in document["traceEvents"]:
        if event["ph"] in "sf":
            arrows[event["name"], event["id"]][event["ph"]] = event
    assert {name for name, _ in arrows} == {"submission", "wait"}
    slices = [event for event in document["traceEvents"] if event["ph"] == "X"]
    for (name, _), ends in arrows.items():
        start, finish = ends["s"], ends["f"]
        assert start["ts"] <= finish["ts"]
        assert (start["pid"] == 1) == (name == "submission")
        assert (finish["pid"] == 1) == (name == "wait")
        for end in (start, finish):
            assert any(
                one["pid"] == end["pid"]
                and one["tid"] == end["tid"]
                and one["ts"] - 0.002 <= end["ts"] <= one["ts"] + one["dur"] + 0.002
                for one in slices
            )
