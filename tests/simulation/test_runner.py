"""Programs under many seeds: which of them break, and that those that hold are not blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

import forge3d_core
from forge3d_core.errors import UsageError
from forge3d_core.selection.simulated import simulated
from forge3d_core.simulation.plan import Trial, trial
from forge3d_core.simulation.runner import Outcome, Program, Runner

EXAMPLES = sorted((Path(forge3d_core.__file__).parents[1] / "examples").glob("*.py"))

START = """
import sys
import numpy as np
import forge3d_core as forge3d
with forge3d.open_device(*sys.argv[1:]) as device, device.readback_pool() as pool:
    ring = device.staging_ring()
    buffer = device.create_buffer(4096)
    up = ring.upload(np.full(4096, 7, np.uint8), buffer)
    handle = pool.read(buffer)
"""
RIGHT = START + "    assert (handle.wait() == 7).all()\n"
WRONG_FENCE = START + "    up.wait()\n    assert handle.try_get() is not None, 'not there'\n"
CARELESS = START + "    handle.wait()\n" + "    device.create_buffer(1024).close()\n" * 30
SWALLOWS = """
import sys
import forge3d_core as forge3d
try:
    with forge3d.open_device() as device:
        made = [device.create_buffer(64) for _ in range(40)]
except forge3d.OutOfDeviceMemory:
    sys.exit("it gave up")
"""


def failures(tmp_path: Path, source: str, trials: list[Trial], **options: object) -> list[Outcome]:
    script = tmp_path / "program.py"
    script.write_text(source)
    with Runner(Program(script, **options), jobs=2) as runner:  # type: ignore[arg-type]
        return runner.run_all(trials, lambda _outcome: None)


def test_a_program_that_waits_for_what_it_needs_holds(tmp_path: Path) -> None:
    assert failures(tmp_path, RIGHT, [trial(seed) for seed in range(1, 21)]) == []


def test_a_wait_for_the_wrong_thing_is_found(tmp_path: Path) -> None:
    found = failures(tmp_path, WRONG_FENCE, [trial(seed) for seed in range(1, 41)])
    assert found
    seeds = [each.trial.seed for each in found]
    assert seeds == sorted(seeds)
    assert found[0].why == "AssertionError: not there"
    again = failures(tmp_path, WRONG_FENCE, [found[0].trial])
    assert [each.why for each in again] == [found[0].why]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_hold(example: Path) -> None:
    with Runner(Program(example), jobs=2) as runner:
        assert runner.run_all([trial(seed) for seed in range(1, 4)], lambda _outcome: None) == []


def test_a_program_that_hangs_is_stopped_and_others_go_on(tmp_path: Path) -> None:
    source = "import forge3d_core, threading\nif forge3d_core.open_device().info.selector != '0':\n"
    hangs = source + "    threading.Event().wait()\n"
    found = failures(tmp_path, hangs, [trial(1), trial(2)], timeout=1.0)
    assert [each.why.split(",")[0] for each in found] == ["it hung", "it hung"]


def test_faults_are_borne_by_forge3ds_own_errors_and_by_nothing_else(tmp_path: Path) -> None:
    refused = Trial(1, "host:?oom_at=9", "refusals")
    lost = Trial(2, "host:?lose_after=1", "losses")
    assert failures(tmp_path, CARELESS, [refused, lost]) == []
    found = failures(tmp_path, SWALLOWS, [refused])
    assert [each.why for each in found] == ["it gave up"]
    unexpected = failures(tmp_path, CARELESS, [Trial(3, "host:?oom_at=9", None)])
    assert [each.trial.seed for each in unexpected] == [3]


def test_a_backend_that_a_program_asks_for_is_the_simulator(tmp_path: Path) -> None:
    source = START + "    assert device.info.backend == 'host'\n    print(sys.argv)\n"
    script = tmp_path / "program.py"
    script.write_text(source)
    with Runner(Program(script, ("cuda:7",)), jobs=1) as runner:
        outcome = runner.reference()
        assert outcome.held, outcome.stderr
        assert "'cuda:7'" in outcome.stdout


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import sys; sys.exit(3)", "it ended with 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11 ended it"),
        ("raise ValueError('x\\ny')", "y"),
        ("import sys; sys.exit('no')", "no"),
        ("def f(:", "SyntaxError: invalid syntax"),
    ],
)
def test_why_a_program_fails(tmp_path: Path, source: str, why: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(source)
    with Runner(Program(script), jobs=1) as runner:
        outcome = runner.reference()
    assert not outcome.held
    assert outcome.why == why


def test_a_race_that_shows_now_and_then_is_no_failure_without_simulation(tmp_path: Path) -> None:
    script, counter = tmp_path / "program.py", tmp_path / "runs"
    script.write_text(
        f"import pathlib; runs = pathlib.Path({str(counter)!r})\n"
        "count = len(runs.read_text()) if runs.exists() else 0\n"
        "runs.write_text('x' * (count + 1)); assert count == 3\n"
    )
    with Runner(Program(script), jobs=1) as runner:
        assert runner.reference().held
    assert counter.read_text() == "xxxx"


def test_enough_failures_end_it(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys; sys.exit(1)")
    ran: list[Outcome] = []
    with Runner(Program(script), jobs=1) as runner:
        assert len(runner.run_all([trial(seed) for seed in range(1, 30)], ran.append, enough=2)) == 2
    assert len(ran) == 2


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        Program(tmp_path / "none.py")


def test_the_simulator_is_opened_for_a_block_alone() -> None:
    with simulated("host:?seed=3"), forge3d_core.open_device("no-such-backend") as device:
        assert "seed=3" in device.info.selector
    with pytest.raises(forge3d_core.UnknownBackend):
        forge3d_core.open_device("no-such-backend")
