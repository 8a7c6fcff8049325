"""How single tests end, seen through pytest itself."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from forge3d_conformance.report.store import read

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

HEAD = """
import pytest

from forge3d_conformance.report.store import read
from hypothesis import given, strategies as st
from forge3d_conformance.violation import Inconclusive, Tardy
"""


@pytest.fixture
def ran(pytester: pytest.Pytester) -> Run:
    def run(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + source)
        return pytester.runpytest_subprocess(
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
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
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


def test_a_passing_run_takes_old_scripts_away(ran: Run, pytester: pytest.Pytester) -> None:
    ran(PROPERTY, "--report", "out")
    ran('@pytest.mark.clause("fence.truth")\ndef test_it(bench): ...', "--report", "out")
    assert list((pytester.path / "out" / "repeat").iterdir()) == []


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
