"""What must come at once has one bound, whatever runs over it: a mutant, or the backend alone."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.mutants import Layer, Mutant, mutants
from forge3d_conformance.target import Target, find_target
from forge3d_conformance.violation import Tardy
from forge3d_conformance.waiting import PROMPT
from forge3d_core.errors import FenceTimeout


@pytest.fixture(scope="module")
def target() -> Target:
    return find_target("host")


@pytest.fixture(params=["sound", "mutant"])
def bench(request: pytest.FixtureRequest, target: Target) -> Iterator[Bench]:
    laid: Mutant | None = mutants()[0] if request.param == "mutant" else None
    bench = Bench(target, "here", mutant=laid)
    assert (bench.layer is None) is (laid is None)
    assert isinstance(bench.layer, (Layer, type(None)))
    yield bench
    bench.close()


def test_an_answer_in_time_is_the_answer(bench: Bench) -> None:
    assert bench.within(PROMPT, "a sum", sum, [1, 2]) == 3


def test_what_never_returns_is_tardy_after_the_bound_that_was_asked_for(bench: Bench) -> None:
    never = threading.Event()
    with pytest.raises(Tardy, match=r"a wait did not come back within 0\.05 s"):
        bench.within(0.05, "a wait", never.wait)
    never.set()


def test_the_calls_own_timeout_is_no_lateness(bench: Bench) -> None:
    def gives_up() -> None:
        raise FenceTimeout("after 0.1 s")

    with pytest.raises(FenceTimeout, match=r"after 0\.1 s"):
        bench.within(PROMPT, "a wait", gives_up)


def test_another_attempt_makes_nothing_of_what_the_last_one_left(bench: Bench) -> None:
    device = bench.open()
    kept = device.budget.reserve(4096)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        bench.renew()
    assert device.closed
    assert kept.released
