"""Lanes and tokens on a device: completion is never early, waits hold, events are pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forge3d_core.driver import Copy, Download, Fill

if TYPE_CHECKING:
    from conftest import Bench, CallGuard


def test_a_token_is_complete_when_the_work_is(bench: Bench, gate: CallGuard) -> None:
    held = gate.hold("compute")
    assert not bench.driver.query(held)
    assert not bench.driver.wait(held, 0.01)
    gate.open()
    bench.finish(held)
    assert bench.driver.query(held)


def test_a_lane_runs_in_order(bench: Bench, gate: CallGuard) -> None:
    buffer = bench.buffer(64)
    held = gate.hold("compute")
    later = bench.driver.submit("compute", [Fill(buffer, 0, 64, 1), Fill(buffer, 8, 8, 2)], ())
    assert not bench.driver.wait(later, 0.01)
    gate.open()
    bench.finish(later)
    assert bench.driver.query(held)
    assert bench.read(buffer) == b"\1" * 8 + b"\2" * 8 + b"\1" * 48


def test_lanes_do_not_wait_for_each_other_unasked(bench: Bench, gate: CallGuard) -> None:
    buffer = bench.buffer(64)
    held = gate.hold("compute")
    bench.run(Fill(buffer, 0, 64, 3), lane="upload")
    assert bench.read(buffer) == b"\3" * 64
    assert not bench.driver.query(held)


def test_after_holds_across_lanes(bench: Bench, gate: CallGuard) -> None:
    buffer, seen = bench.buffer(64), bench.buffer(64)
    held = gate.hold("upload")
    filled = bench.driver.submit("compute", [Fill(buffer, 0, 64, 9)], [held])
    copied = bench.driver.submit("download", [Copy(buffer, 0, seen, 0, 64)], [filled])
    assert not bench.driver.wait(filled, 0.01)
    assert not bench.driver.query(copied)
    gate.open()
    bench.finish(copied)
    assert bench.driver.query(filled)
    assert bench.read(seen) == b"\t" * 64


def test_an_empty_submission_completes(bench: Bench, gate: CallGuard) -> None:
    bench.run()
    held = gate.hold("compute")
    empty = bench.driver.submit("compute", [], ())
    assert not bench.driver.query(empty)
    gate.open()
    bench.finish(empty)
    assert bench.driver.query(held)


def test_a_retired_token_is_complete_and_holds_up_nothing(bench: Bench, gate: CallGuard) -> None:
    token = bench.driver.submit("upload", [], ())
    bench.finish(token)
    bench.driver.retire(token)
    held = gate.hold("upload")  # takes the very event that the token gave back
    assert bench.driver.query(token)
    bench.run(after=[token], lane="compute")
    assert not bench.driver.query(held)


def test_no_event_is_created_in_the_steady_state(bench: Bench) -> None:
    lanes = bench.driver._lanes
    buffer = bench.buffer(64)
    for _ in range(4):
        tokens = [
            bench.driver.submit(lane, [Fill(buffer, 0, 64, 0)], ())
            for lane in ("upload", "compute", "download")
        ]
        for token in tokens:
            bench.finish(token)
            bench.driver.retire(token)
        assert lanes.events_created == 3
    assert lanes.idle


def test_a_complete_readback_is_visible(bench: Bench) -> None:
    buffer = bench.buffer(1_000_000)
    block = bench.driver.allocate_block(1_000_000, "readback")
    for value in range(20):
        filled = bench.driver.submit("compute", [Fill(buffer, 0, 1_000_000, value)], ())
        read = bench.driver.submit("download", [Download(buffer, 0, block, 0, 1_000_000)], [filled])
        bench.finish(read)
        assert (block.view() == value).all()
