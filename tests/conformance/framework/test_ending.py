"""Runs that end before their time: what is told, what is kept, and that nobody is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forge3d_conformance.report import Phase, State, Verdict
from forge3d_conformance.report.store import read

COMMAND = [sys.executable, "-c", "from forge3d_core.cli import main; main()", "conformance"]
HANGS = """
            if {where!r} in os.environ["PYTEST_CURRENT_TEST"]:
                with open({mark!r}, "w") as file:
                    print(os.getpid(), file=file)
                signal.pause()
"""


@contextmanager
def hanging(
    crooked: Callable[..., None], tmp_path: Path, *arguments: str, where: str = "test_"
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the command on a backend that hangs in a test; yield it and the number of the run."""
    mark, temporary = tmp_path / "pid", tmp_path / "temporary"
    temporary.mkdir()
    os.mkfifo(mark)
    crooked(broken=HANGS.format(where=where, mark=str(mark)).strip())
    with (
        os.fdopen(os.open(mark, os.O_RDWR)) as told,  # for writing too, or the open would wait for a writer
        subprocess.Popen(
            [*COMMAND, "--backend", "crooked", *arguments],
            env={**os.environ, "TMPDIR": str(temporary)},
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert select.select([told], [], [], 60)[0], process.poll()
        yield process, int(told.readline())


def gone(number: int) -> bool:
    """Whether the process ended; one that nobody has waited for is a zombie, and has."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def test_a_command_that_is_terminated_takes_the_run_with_it(
    crooked: Callable[..., None], tmp_path: Path
) -> None:
    with hanging(crooked, tmp_path, "--clause", "fence.close-wakes") as (process, number):
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert "interrupted after 0 of 2 tests: nothing is proven" in process.stderr.read()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_an_interrupted_run_had_found_is_kept(crooked: Callable[..., None], tmp_path: Path) -> None:
    report = tmp_path / "report"
    arguments = ("--clause", "device.*", "--report", str(report))
    with hanging(crooked, tmp_path, *arguments, where="test_device_process") as (process, _):
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    found = read(report)
    assert (found.phase, found.verdict) == (Phase.FINISHED, Verdict.INCOMPLETE)
    assert found.in_state(State.PASS)
    assert "device.exit" in {result.id for result in found.in_state(State.NOT_RUN)}


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_command_that_is_killed_leaves_no_run_behind(crooked: Callable[..., None], tmp_path: Path) -> None:
    with hanging(crooked, tmp_path, "--clause", "fence.close-wakes") as (process, number):
        assert not gone(number)
        process.kill()
        process.wait(60)
        end = time.monotonic() + 30
        while not gone(number) and time.monotonic() < end:
            time.sleep(0.02)
        assert gone(number)
