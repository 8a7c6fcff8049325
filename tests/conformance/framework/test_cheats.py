"""Backends that are wrong and would rather not be told: none comes to a success."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forge3d_conformance.running import Ran

Run = Callable[..., Ran]

WRONG = "self.create = None; raise ValueError('wrong')"
FORGED = """
            import atexit, json, sys
            def forge():
                file = open(sys.argv[sys.argv.index("--events") + 1], "a+")
                file.seek(0)
                events = [json.loads(line) for line in file]
                end = {**events[-1], "holds": True, "reasons": [], "verdict": "conformant"}
                end["clauses"] = [{**clause, "state": "pass"} for clause in end["clauses"]]
                file.write(json.dumps(end) + chr(10))
                file.close()
                os._exit(0)
            atexit.register(forge)
"""
SESSION = """
            import gc
            from forge3d_conformance.session import ClauseSession
            run = next(found for found in gc.get_objects() if type(found) is ClauseSession)
"""
REWRITES = """
            import atexit, sys
            from pathlib import Path
            def forge():
                path = Path(sys.argv[sys.argv.index("--report") + 1], "report.json")
                from forge3d_conformance.report.canonical import dump, parse
                import attrs
                path.write_bytes(dump(attrs.evolve(parse(path.read_bytes()), seed=99)))
            atexit.register(forge)
"""

CHEATS = {
    "skips": "import pytest; pytest.skip('not here')",
    "exits": "raise SystemExit(0)",
    "leaves": "os._exit(0)",
    "interrupts": "raise KeyboardInterrupt",
    "signals": "os.kill(os.getpid(), signal.SIGINT)",
    "rejects": "import hypothesis; hypothesis.reject()",
    "forges its end": FORGED + f"            {WRONG}",
    "edits the records": SESSION
    + "            import attrs; run._of = lambda mutant: []\n"
    + "            run.records = type('L', (list,), {'append': lambda s, r: list.append(\n"
    + "                s, attrs.evolve(r, ending='pass', message=None))})(run.records)\n"
    + f"            {WRONG}",
    "drops its tests": SESSION + "            run.expected.clear()\n            os._exit(0)",
    "forks": "os.fork()",
    "adds options": "os.environ['PYTEST_ADDOPTS'] = '--collect-only'\n            " + WRONG,
    "stops the clock": "import time; time.monotonic = time.perf_counter = lambda: 0.0\n            " + WRONG,
}


@pytest.mark.parametrize(
    ("cheat", "jobs"), [*((cheat, "1") for cheat in CHEATS), ("leaves", "2"), ("forges its end", "2")]
)
def test_a_cheat_is_no_success(run: Run, crooked: Callable[..., None], cheat: str, jobs: str) -> None:
    crooked(broken=CHEATS[cheat].strip())
    ran = run("--backend", "crooked", "--clause", "fence.close-wakes,fence.value", "--jobs", jobs)
    assert not ran.holds, (cheat, ran)


def test_a_report_that_is_changed_behind_the_run_is_no_success(
    run: Run, crooked: Callable[..., None], tmp_path: Path
) -> None:
    crooked(broken=REWRITES.strip())
    report = str(tmp_path / "report")
    ran = run("--backend", "crooked", "--clause", "fence.close-wakes", "--report", report)
    assert ran.last is not None, ran.output
    assert ran.last["holds"]
    assert not ran.holds
    assert "changed behind it" in ran.doubt
