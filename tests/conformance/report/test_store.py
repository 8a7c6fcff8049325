"""Reports as files: whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError
from forge3d_conformance.inventory import Inventory
from forge3d_conformance.report import Report, Verdict, publish, read
from forge3d_conformance.report.store import HTML, JSON, JUNIT, replace
from forge3d_conformance.verify import verify


def test_three_forms_are_written_and_nothing_else(
    catalogue: Catalogue, run: Callable[..., Report], tmp_path: Path
) -> None:
    report = run()
    path = publish(report, catalogue, tmp_path / "new" / "folder")
    assert sorted(os.listdir(path.parent)) == sorted([HTML, JSON, JUNIT])
    assert read(path) == read(path.parent) == report


def test_a_new_run_takes_an_earlier_pass_away(
    catalogue: Catalogue, inventory: Inventory, run: Callable[..., Report], begun: Report, tmp_path: Path
) -> None:
    publish(run(), catalogue, tmp_path)
    publish(begun, catalogue, tmp_path)
    assert read(tmp_path).verdict is Verdict.INCOMPLETE
    assert "Incomplete" in (tmp_path / HTML).read_text("utf-8")
    assert not verify((tmp_path / JSON).read_bytes(), catalogue, inventory).conformant


@pytest.mark.parametrize("fails", [HTML, JUNIT, JSON])
def test_a_new_run_that_cannot_be_written_leaves_no_earlier_pass(
    catalogue: Catalogue,
    run: Callable[..., Report],
    begun: Report,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:
    publish(run(), catalogue, tmp_path)

    def write(path: Path, data: bytes) -> None:
        if path.name == fails:
            raise OSError(28, "No space left on device")
        replace(path, data)

    monkeypatch.setattr("forge3d_conformance.report.store.replace", write)
    with pytest.raises(ReportError, match="No space left"):
        publish(begun, catalogue, tmp_path)
    assert not (tmp_path / JSON).exists()


def test_a_failed_replacement_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / JSON
    replace(path, b"old")

    def fail(*_names: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input"):
        replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [JSON]


KILLED = """
import os, signal, sys
from pathlib import Path
from forge3d_conformance.catalogue import load
from forge3d_conformance.report import BackendIdentity, begin, publish
identity = BackendIdentity("host", "forge3d-core", "0.1.0", "numpy")
publish(begin(load(), identity, level="core", seed=1, capabilities=()), load(), Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the platform has no SIGKILL")
def test_a_killed_run_never_leaves_a_pass(
    catalogue: Catalogue, inventory: Inventory, run: Callable[..., Report], tmp_path: Path
) -> None:
    publish(run(), catalogue, tmp_path)
    assert verify((tmp_path / JSON).read_bytes(), catalogue, inventory).conformant
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    left = verify((tmp_path / JSON).read_bytes(), catalogue, inventory)
    assert left.sound
    assert not left.conformant


def test_unreadable_reports_say_which(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="missing"):
        read(tmp_path / "missing")
    (tmp_path / JSON).write_bytes(b"{")
    with pytest.raises(ReportError, match=JSON):
        read(tmp_path)


def test_a_directory_that_cannot_be_made_is_a_report_error(
    catalogue: Catalogue, begun: Report, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReportError, match=f"could not be written to {tmp_path / 'file'}: "):
        publish(begun, catalogue, tmp_path / "file")
