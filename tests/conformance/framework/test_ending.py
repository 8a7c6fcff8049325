"""Runs that end before their time: what is told, what is kept, and that nobody is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forge3d_conformance.report import Phase, State, Verdict
from forge3d_conformance.report.store import read

COMMAND = [sys.executable, "-c", "from forge3d_core.cli import main; main()", "conformance"]
HANGS = """
            if {where!r} in os.environ["PYTEST_CURRENT_TEST"]:
                signalled, tell = os.pipe()  # a pause would miss a signal that comes just before it
                os.set_blocking(tell, False)
                signal.set_wakeup_fd(tell)
                with open({mark!r}, "w") as file:
                    print(os.getpid(), file=file)
                os.read(signalled, 1)
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


@pytest.mark.parametrize("interrupts", [signal.default_int_handler, signal.SIG_IGN], ids=["", "background"])
def test_what_an_interrupted_run_had_found_is_kept(
    crooked: Callable[..., None], tmp_path: Path, interrupts: Any
) -> None:
    earlier = signal.signal(signal.SIGINT, interrupts)  # shells have background jobs ignore them
    report = tmp_path / "report"
    # Their files have this order: as the program of the fourth starts, one at least has ended.
    clauses = "device.foreign-error,device.limits,device.selectors,device.fork,device.exit"
    arguments = ("--clause", clauses, "--jobs", "2", "--report", str(report))
    try:
        with hanging(crooked, tmp_path, *arguments, where="test_device_process") as (process, number):
            process.terminate()
            assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGINT, earlier)
    with pytest.raises(ProcessLookupError):  # what hung was a program of the test
        os.kill(number, 0)
    found = read(report)
    assert (found.phase, found.verdict) == (Phase.FINISHED, Verdict.INCOMPLETE)
    assert found.in_state(State.PASS)
    assert "device.exit" in {result.id for result in found.in_state(State.NOT_RUN)}


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is no child")
@pytest.mark.parametrize(
    ("clause", "where"),
    [
        pytest.param("fence.close-wakes", "test_", id="a run"),
        pytest.param("device.reopen", "test_device_process", id="a program of a test"),
    ],
)
def test_a_command_that_is_killed_leaves_nobody_behind(
    crooked: Callable[..., None], tmp_path: Path, clause: str, where: str
) -> None:
    with hanging(crooked, tmp_path, "--clause", clause, where=where) as (process, number):
        run = os.pidfd_open(number)  # readable once the process has ended
        try:
            assert not select.select([run], [], [], 0)[0]
            process.kill()
            process.wait(60)
            assert select.select([run], [], [], 60)[0]
        finally:
            os.close(run)
