"""What is measured is what the table says, each operation really done, each absence told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import forge3d_core
from forge3d_conformance.catalogue import load
from forge3d_conformance.errors import ReportError
from forge3d_conformance.speed.compare import compare
from forge3d_conformance.speed.measure import OURS, measure, select_rows
from forge3d_conformance.speed.ours import Ours
from forge3d_conformance.speed.ours.ours import MAKERS
from forge3d_conformance.speed.ours.overlapping import OVERLAPPING
from forge3d_conformance.speed.ours.systems import SYSTEMS
from forge3d_conformance.speed.payload import payload
from forge3d_conformance.speed.peers.peers import PEERS
from forge3d_conformance.speed.results import dump, read
from forge3d_conformance.speed.targets import BACKENDS, Row, load_rows
from forge3d_core import Device, UsageError


@pytest.fixture
def device() -> Iterator[Device]:
    with forge3d_core.open_device("host") as device:
        yield device


OPERATIONS = sorted(MAKERS)
LONG = {"demo", "read-among-10000", *OVERLAPPING, *SYSTEMS}
"""Operations that take seconds, which only a measurement should spend."""


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in LONG])
def test_an_operation_runs_and_gives_everything_back(device: Device, operation: str) -> None:
    ours = Ours(device)
    runner = ours.runner(operation, 8008)
    runner.call()
    runner.settle()
    runner.close()
    device.wait_idle()
    assert device.budget.metrics().total_bytes == 0


def test_an_upload_that_is_timed_arrives(device: Device) -> None:
    made: list[forge3d_core.Buffer] = []
    create = device.create_buffer

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(device, name)

        def create_buffer(self, nbytes: int) -> forge3d_core.Buffer:
            made.append(create(nbytes))
            return made[-1]

    runner = Ours(Watched()).runner("upload", 1000)  # type: ignore[arg-type]
    runner.call()
    with device.readback_pool() as pool:
        assert (pool.read(made[0]).wait() == payload(1000)).all()
    runner.close()


def test_an_unknown_operation_is_refused(device: Device) -> None:
    with pytest.raises(UsageError, match="teleport"):
        Ours(device).runner("teleport", 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_table_names_clauses_operations_and_peers_that_there_are(backend: str) -> None:
    clauses = {clause.id for clause in load().clauses}
    for row in load_rows(backend):
        assert row.clause in clauses, row
        assert row.ours in OPERATIONS, row
        assert row.peer in (OURS, *PEERS[backend]), row
        assert row.peer != OURS or row.operation in OPERATIONS, row


def test_a_target_is_a_bound_on_one_side() -> None:
    with pytest.raises(ValueError, match="two targets"):
        Row("perf.tax", "upload", "cupy/set", at_most=1.0, at_least=1.0)
    assert Row("perf.tax", "upload", "cupy/set").better == "higher"
    assert Row("perf.tax", "upload", "cupy/set", cost=True).better == "lower"
    assert Row("perf.tax", "upload", "cupy/set", at_most=2.0).target == 2.0


def test_a_backend_that_there_is_no_table_for_has_no_rows() -> None:
    assert load_rows("stranger") == ()
    assert select_rows("stranger", "discrete") == []


def test_rows_are_taken_by_backend_adapter_size_and_operation() -> None:
    assert not any(row.adapters == ("cpu",) for row in select_rows("wgpu", "discrete"))
    assert {row.size for row in select_rows("host", "cpu", [1_000_000])} == {1_000_000}
    assert {row.ours for row in select_rows("host", "cpu", (), ["read"])} == {"read"}


def test_a_measurement_goes_to_json_and_back(device: Device, tmp_path: Path) -> None:
    rows = select_rows("host", "cpu", [1_000_000], ["upload"])
    report = measure(device, rows, 0.0)
    assert [(row.ours, row.raw) for row in report.rows] == [("upload", "numpy/copyto")]
    assert len(report.calls) == 5
    path = tmp_path / "speed.json"
    path.write_text(dump(report), "utf-8")
    assert read(path) == report
    assert not any(change.clear for change in compare(report, report))


def test_a_peer_that_is_not_here_is_told_as_missing(device: Device) -> None:
    row = Row("perf.upload-owned", "upload", "abacus/beads", 4096, at_least=1.0)
    report = measure(device, [row], 0.0)
    assert not report.rows
    assert "abacus" in report.missing[0].reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "forge3d-bench/1"}', "{", "[" * 100_000])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ReportError, match="no result of"):
        read(path)


def test_an_error_of_one_row_leaves_the_others(device: Device) -> None:
    rows = [
        Row("perf.upload-owned", "upload", "numpy/teleport", 4096),
        Row("perf.upload-owned", "read", "numpy/copy", 4096),
    ]
    report = measure(device, rows, 0.0)
    assert [row.ours for row in report.rows] == ["read"]
    assert "teleport" in report.missing[0].reason
