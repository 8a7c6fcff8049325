"""What is measured is what the table says, each operation really done, each absence told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import forge3d_core
from forge3d_conformance.catalogue import load
from forge3d_conformance.errors import ReportError
from forge3d_conformance.speed.compare import compare
from forge3d_conformance.speed.measure import measure, select_rows
from forge3d_conformance.speed.ours import Ours
from forge3d_conformance.speed.peers.peers import PEERS
from forge3d_conformance.speed.results import dump, read
from forge3d_conformance.speed.targets import Row, load_rows
from forge3d_core import Device, UsageError


@pytest.fixture
def device() -> Iterator[Device]:
    with forge3d_core.open_device("host") as device:
        yield device


OPERATIONS = [
    "submit",
    "submit-list",
    "submit-empty",
    "passed-point",
    "stage",
    "staged-upload",
    "upload",
    "upload-batch",
    "read",
    "read-into",
    "read-many",
    "lease",
    "duplex",
    "texture",
]


def test_every_operation_is_tried_here(device: Device) -> None:
    assert sorted(Ours(device).operations) == sorted(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
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
        assert (pool.read(made[0]).wait() == np.random.default_rng(7).integers(0, 256, 1000, np.uint8)).all()
    runner.close()


def test_an_unknown_operation_is_refused(device: Device) -> None:
    with pytest.raises(UsageError, match="teleport"):
        Ours(device).runner("teleport", 1)


def test_the_table_names_clauses_operations_and_peers_that_there_are() -> None:
    clauses = {clause.id for clause in load().clauses}
    for row in load_rows():
        assert row.clause in clauses, row
        assert row.ours in OPERATIONS, row
        assert row.peer in PEERS[row.backend], row
        assert row.better in ("higher", "lower")


def test_rows_are_taken_by_backend_adapter_size_and_operation() -> None:
    assert all(row.backend == "wgpu" for row in select_rows("wgpu", "cpu"))
    assert not any(row.adapters == ("cpu",) for row in select_rows("wgpu", "discrete"))
    assert {row.size for row in select_rows("host", "cpu", [1_000_000])} == {1_000_000}
    assert {row.ours for row in select_rows("host", "cpu", (), ["read"])} == {"read"}


def test_a_measurement_goes_to_json_and_back(device: Device, tmp_path: Path) -> None:
    rows = select_rows("host", "cpu", [1_000_000])
    report = measure(device, rows, 0.0)
    assert [(row.ours, row.raw) for row in report.rows] == [("upload", "numpy/copyto")]
    assert len(report.calls) == 5
    path = tmp_path / "speed.json"
    path.write_text(dump(report), "utf-8")
    assert read(path) == report
    assert not any(change.clear for change in compare(report, report))


def test_a_peer_that_is_not_here_is_told_as_missing(device: Device) -> None:
    row = Row("perf.upload-owned", "host", "upload", "abacus/beads", "higher", 4096, 1.0)
    report = measure(device, [row], 0.0)
    assert not report.rows
    assert "abacus" in report.missing[0].reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "forge3d-bench/1"}', "{", "[" * 100_000])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speed.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ReportError, match="no result of"):
        read(path)
