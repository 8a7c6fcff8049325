"""How single tests end, seen through pytest itself."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import forge3d_conformance.fixtures
import forge3d_conformance.session
from forge3d_conformance import inventory
from forge3d_conformance.inventory import ClauseTest, Inventory
from forge3d_conformance.report.store import read

# Both are here before the first run: pytester takes away again what a run in this process imported, and
# the next one would know another class of each violation.
pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

HEAD = """
import pytest

from forge3d_conformance.report.store import read
from hypothesis import given, strategies as st
from forge3d_conformance.violation import Inconclusive, Tardy
"""


@pytest.fixture
def ran(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run some tests of clauses, and of those clauses no others."""
    monkeypatch.setattr(inventory, "take", lambda: Inventory({}, {}))

    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + source)
        return pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "--backend", "host", "--clause", "fence.t*", *arguments
        )

    return run


def test_an_inconclusive_test_is_tried_three_times(ran: Run) -> None:
    result = ran("""
tries = []
@pytest.mark.clause("fence.truth")
def test_it(bench):
    tries.append(bench.open())
    assert all(device.closed for device in tries[:-1])
    if len(tries) < 3:
        raise Inconclusive("not long enough")

@pytest.mark.clause("fence.timeout")
def test_never(bench):
    raise Inconclusive("never long enough")
""")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["fence * 1 inconclusive, 1 pass", "*fence.timeout is inconclusive*"])


@pytest.mark.parametrize("doubt", ["Tardy", "Inconclusive"])
def test_a_mutant_is_tried_as_often_as_the_backend(ran: Run, doubt: str) -> None:
    result = ran(
        f"""
tries = {{}}
@pytest.mark.clause("fence.truth")
def test_it(bench, mutant):
    count = tries[mutant] = tries.get(mutant, 0) + 1
    if count < 3:
        raise {doubt}("not now")
""",
        "--self-test",
    )
    result.stdout.fnmatch_lines(["self-test * survived"])
    assert "not now" not in result.stdout.str()


def test_the_report_says_what_was_tried_again_and_why(ran: Run, pytester: pytest.Pytester) -> None:
    ran(
        """
tries = []
@pytest.mark.clause("fence.truth")
def test_it(bench):
    tries.append(1)
    if len(tries) < 3:
        raise Tardy("slow")

@pytest.mark.clause("fence.truth")
def test_at_once(bench): ...
""",
        "--report",
        "out",
    )
    (result,) = [r for r in read(pytester.path / "out").clauses if r.id == "fence.truth"]
    assert result.retries == {"test_it": ("Tardy: slow", "Tardy: slow")}
    page = (pytester.path / "out" / "report.html").read_text("utf-8")
    assert "test_it was tried 3 times, after Tardy: slow; Tardy: slow" in page


LAPSING = """
class Lapsing:
    bounded = {bounded}
    held = True
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.release()
    def release(self):
        self.held = False

@pytest.fixture
def lapsing(bench, monkeypatch):
    hold = Lapsing()
    monkeypatch.setattr(bench.target.subject.lent, "hold", lambda *_: hold, raising=False)
    return hold
"""


@pytest.mark.parametrize(("bounded", "ending"), [(False, "fail"), (True, "inconclusive")])
def test_a_hold_that_ends_by_itself(ran: Run, bounded: bool, ending: str) -> None:
    result = ran(
        LAPSING.format(bounded=bounded)
        + """
@pytest.mark.clause("fence.truth")
def test_it(bench, lapsing):
    with bench.hold(bench.open()) as hold:
        hold.observe(lapsing.release)
"""
    )
    result.stdout.fnmatch_lines([f"fence * 1 {ending}"])
    assert ("ended by itself" in result.stdout.str()) is (ending == "fail")


@pytest.mark.parametrize(
    ("bounded", "then", "ending"),
    [
        (False, "lapsing.release()", "fail"),
        (True, "lapsing.release()", "pass"),
        (False, "lapsing.release(); device.close()", "pass"),
        (False, "lapsing.release(); bench.lose(device)", "pass"),
        (False, "hold.release(); hold.release()", "pass"),
    ],
)
def test_a_hold_that_nobody_looked_at_again(ran: Run, bounded: bool, then: str, ending: str) -> None:
    result = ran(
        LAPSING.format(bounded=bounded)
        + f"""
@pytest.mark.clause("fence.truth")
def test_it(bench, lapsing):
    device = bench.open()
    with bench.hold(device) as hold:
        {then}
"""
    )
    result.stdout.fnmatch_lines([f"fence * 1 {ending}"])


def test_a_tardy_test_fails_only_when_it_is_always_so(ran: Run) -> None:
    result = ran("""
tries = []
@pytest.mark.clause("fence.truth")
def test_it(bench):
    tries.append(1)
    if len(tries) < 3:
        raise Tardy("slow")

@pytest.mark.clause("fence.timeout")
def test_always(bench):
    raise Tardy("always slow")
""")
    result.stdout.fnmatch_lines(["fence * 1 fail, 1 pass"])


def test_properties_follow_the_seed(ran: Run) -> None:
    source = """
seen = []
@pytest.mark.clause("fence.truth")
@given(st.integers(0, 10**9))
def test_it(bench, number):
    seen.append(number)

@pytest.mark.clause("fence.truth")
def test_tell(bench):
    print("SEEN", hash(tuple(seen)), len(seen), bench.payload(3))
"""
    told = [
        re.findall("SEEN.*", ran(source, "-s", "--seed", seed).stdout.str())[0] for seed in ("1", "1", "2")
    ]
    assert told[0] == told[1] != told[2]
    assert " 25 " in told[0]


def test_a_clause_that_is_none_stops_the_run(ran: Run) -> None:
    result = ran("""
@pytest.mark.clause("fence.turth")
def test_it(bench): ...
""")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'fence.turth', which is no clause*"])


def test_a_failure_says_how_to_repeat_it(ran: Run) -> None:
    result = ran(
        """
@pytest.mark.clause("fence.truth")
def test_it(bench):
    bench.check(False, "seen too early")
""",
        "--seed",
        "9",
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "fail: fence.truth: test_it: ClauseViolation: seen too early",
            "*repeat: forge3d conformance --backend host --clause fence.truth --seed 9",
        ]
    )


def test_the_plugin_is_inert_without_clauses(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import sys
def test_it():
    assert "forge3d_conformance.session" not in sys.modules
""")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_without_a_backend_clause_tests_are_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HEAD + '@pytest.mark.clause("fence.truth")\ndef test_it(bench): ...')
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*clause tests need a backend*host*"])


PROPERTY = """
@pytest.mark.clause("fence.truth")
@given(st.integers(0, 10**9))
def test_it(bench, number):
    print("TRIED", number)
    bench.check(number < 900, "too large")
"""


def test_a_failing_property_leaves_a_script_with_its_case(ran: Run, pytester: pytest.Pytester) -> None:
    ran(PROPERTY, "--report", "out")
    script = (pytester.path / "out" / "repeat" / "fence.truth.test_it.py").read_text("utf-8")
    assert "number=900" in script
    example = re.search(r"example='(.+)'", script)
    assert example is not None
    result = ran(PROPERTY, "-s", "--example", example[1])
    assert result.ret == 1
    assert set(re.findall("TRIED .*", result.stdout.str())) == {"TRIED 900"}
    assert ran(PROPERTY, "--example", "0.1:AAAA").ret == pytest.ExitCode.USAGE_ERROR
    mended = ran(PROPERTY.replace("number < 900", "True"), "-s", "--example", example[1])
    mended.assert_outcomes(passed=1)
    assert set(re.findall("TRIED .*", mended.stdout.str())) == {"TRIED 900"}
    another = ran(PROPERTY.replace("st.integers(0, 10**9)", "st.text(min_size=5)"), "--example", example[1])
    another.assert_outcomes(failed=1)


def test_a_passing_run_takes_old_scripts_away(ran: Run, pytester: pytest.Pytester) -> None:
    ran(PROPERTY, "--report", "out")
    ran('@pytest.mark.clause("fence.truth")\ndef test_it(bench): ...', "--report", "out")
    assert list((pytester.path / "out" / "repeat").iterdir()) == []


def test_scripts_that_are_not_the_suites_own_stay(ran: Run, pytester: pytest.Pytester) -> None:
    ran(PROPERTY, "--report", "out")
    folder = pytester.path / "out" / "repeat"
    written = folder / "fence.truth.test_it.py"
    written.write_text(written.read_text("utf-8") + "print('mine now')\n", "utf-8")
    mine = folder / "mine.py"
    mine.write_text("from forge3d_conformance.repeat import repeat\n", "utf-8")
    (folder / "link.py").symlink_to(mine)
    ran(PROPERTY, "--report", "out")
    assert "mine now" in written.read_text("utf-8")
    assert mine.exists()
    assert (folder / "link.py").is_symlink()
    assert (folder / "fence.truth.test_it.2.py").exists()  # the new one has a name of its own
    ran('@pytest.mark.clause("fence.truth")\ndef test_it(bench): ...', "--report", "out")
    assert sorted(p.name for p in folder.iterdir()) == ["fence.truth.test_it.py", "link.py", "mine.py"]


def test_the_cases_of_a_test_are_told_apart(ran: Run, pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.clause("fence.truth")
@pytest.mark.parametrize("lane", ["up-load", "download"])
def test_it(bench, lane): ...
"""
    for arguments in ((), ("--self-test",)):
        ran(source, "--report", "out", *arguments)
        (result,) = [r for r in read(pytester.path / "out").clauses if r.id == "fence.truth"]
        assert result.tests == ("test_it[up-load]", "test_it[download]")


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the suite's tests of fence.truth those in ``WHOLE``."""
    tests = (ClauseTest("test_it", cases=2), ClauseTest("test_other"))
    whole = Inventory({"fence.truth": tests}, inventory.take().mutants)
    monkeypatch.setattr(inventory, "take", lambda: whole)


WHOLE = """
@pytest.mark.clause("fence.truth")
@pytest.mark.parametrize("lane", ["upload", "download"])
def test_it(bench, lane): ...

@pytest.mark.clause("fence.truth")
def test_other(bench): ...
"""


@pytest.mark.parametrize(
    ("chosen", "missing"),
    [
        ((), None),
        (("-k", "other"), "2 of its 3 tests did not run, test_it"),
        (("-k", "load"), "1 of its 3 tests did not run, test_other"),
        (("-k", "upload"), "2 of its 3 tests did not run, test_it"),
        (("test_it.py::test_it[upload]",), "2 of its 3 tests did not run, test_it (1 more of its 2 cases)"),
        (("test_it.py::test_other",), "1 of its 2 tests did not run, test_it"),
        (("--ignore", "test_it.py"), None),
    ],
)
@pytest.mark.usefixtures("suite")
def test_fewer_tests_than_the_suite_has_are_never_a_pass(
    pytester: pytest.Pytester, chosen: tuple[str, ...], missing: str | None
) -> None:
    pytester.makepyfile(test_it=HEAD + WHOLE)
    result = pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "--backend", "host", "--clause", "fence.truth", *chosen
    )
    assert (result.ret == 0) is (chosen == ())
    if missing:
        assert missing in result.stdout.str()
        result.stdout.fnmatch_lines(["fence * 1 not_run"])


@pytest.mark.usefixtures("suite")
def test_a_mutant_that_never_ran_is_not_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(HEAD + WHOLE)
    result = pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "--backend", "host", "--clause", "fence.truth", "--self-test"),
        *("-k", "sound"),
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["fence * 1 pass", "self-test * not run", "not a success: mutant * was not run*"]
    )


@pytest.mark.parametrize(
    ("option", "complaint"),
    [("--seed=-1", "a seed is a number from 0, not -1"), ("--report=", "name a directory for the report")],
)
def test_options_that_mean_nothing_are_refused(ran: Run, option: str, complaint: str) -> None:
    result = ran(WHOLE, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{complaint}*"])


def test_a_report_that_cannot_be_written_at_the_end_is_no_success(
    ran: Run, pytester: pytest.Pytester
) -> None:
    result = ran(
        """
from pathlib import Path

@pytest.mark.clause("fence.truth")
def test_it(bench):
    Path("out").rename("away")
    Path("out").write_text("in the way")
""",
        "--report",
        "out",
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["not a success: the report could not be written to out: *"])
    assert "Traceback" not in result.stdout.str()
    assert read(pytester.path / "away").totals["pass"] == 0


def test_no_test_is_begun_when_the_run_has_taken_its_time(
    ran: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(forge3d_conformance.session.RUN_SECONDS, "core", 0.2)
    result = ran(
        """
import time

@pytest.mark.clause("fence.timeout")
def test_first(bench):
    bench.check(True, "so it is")
    time.sleep(0.3)  # all that the run has

@pytest.mark.clause("fence.truth")
def test_second(bench):
    raise AssertionError("it was begun")
""",
        "--report",
        "out",
    )
    assert result.ret == 1
    (truth,) = [r for r in read(pytester.path / "out").clauses if r.id == "fence.truth"]
    assert truth.state.value == "inconclusive"
    assert truth.reason == "test_second was not begun: the run had taken 0 s"


def test_what_a_slow_device_was_spared_stands_beside_the_pass(ran: Run, pytester: pytest.Pytester) -> None:
    ran(
        """
import attrs

@pytest.mark.clause("fence.truth")
def test_it(bench):
    assert bench.affordable(60, 10, 1.0) == 60
    bench.target = attrs.evolve(bench.target, pace=0.05)
    assert bench.affordable(60, 10, 1.0) == 2
    assert bench.affordable(60, 1, 1.0) == 20
    bench.check(True, "so it is")
""",
        "--report",
        "out",
    )
    (truth,) = [r for r in read(pytester.path / "out").clauses if r.id == "fence.truth"]
    assert truth.state.value == "pass"
    assert truth.reason is not None
    assert "2 of 60 rounds, as a submission takes 0.050 s; 20 of 60 rounds" in truth.reason
