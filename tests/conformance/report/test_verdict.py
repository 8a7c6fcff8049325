"""From results to a verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forge3d_core
from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import (
    Judgement,
    MutantResult,
    Outcome,
    Phase,
    Report,
    State,
    Verdict,
    judge,
)
from forge3d_conformance.report.store import read


def test_a_run_in_which_every_core_clause_passed_is_conformant(
    catalogue: Catalogue, run: Callable[..., Report]
) -> None:
    judgement = judge(catalogue, run())
    assert judgement == Judgement((), (), (), (), ())
    assert judgement.verdict is Verdict.CONFORMANT


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.FAIL, Verdict.NONCONFORMANT),
        (State.UNEXPECTED_PASS, Verdict.NONCONFORMANT),
        (State.NOT_RUN, Verdict.INCOMPLETE),
        (State.INCONCLUSIVE, Verdict.INCOMPLETE),
        (State.UNSUPPORTED, Verdict.CONFORMANT),
        (State.KNOWN_FAILURE, Verdict.CONFORMANT),
    ],
)
def test_one_core_clause_decides(
    catalogue: Catalogue, run: Callable[..., Report], state: State, verdict: Verdict
) -> None:
    report = run({"device.lost": state})
    judgement = judge(catalogue, report)
    assert report.verdict is judgement.verdict is verdict
    excepted = state in (State.UNSUPPORTED, State.KNOWN_FAILURE)
    assert judgement.exceptions == (("device.lost",) if excepted else ())
    assert any("device.lost" in reason for reason in judgement.reasons) is not excepted


@pytest.mark.parametrize("id", ["ring.wraps", "fence.truth"])
def test_unsupported_without_want_of_anything_is_a_waiver(
    catalogue: Catalogue, run: Callable[..., Report], id: str
) -> None:
    judgement = judge(catalogue, run({id: State.UNSUPPORTED}))
    assert judgement.verdict is Verdict.NONCONFORMANT
    assert judgement.waivers == (
        f"{id} is called unsupported, and lacks nothing that it requires: the device cannot be lost",
    )


def test_what_every_backend_can_lend_is_not_excused(catalogue: Catalogue, run: Callable[..., Report]) -> None:
    needing = {clause.id for clause in catalogue.select(status="active") if "hold" in clause.requires}
    core = [id for id in needing if catalogue[id].level == "core"]
    judgement = judge(catalogue, run(dict.fromkeys(core, State.UNSUPPORTED), lacking=("hold", "lose")))
    assert judgement.verdict is Verdict.INCOMPLETE
    (reason,) = judgement.open_ends
    assert reason.startswith(f"hold is not lent, and {len(core)} clauses require it; every GPU API can: ")
    assert set(judgement.exceptions) == set(core)


def test_a_pass_for_want_of_a_hold_is_not_enough(catalogue: Catalogue, run: Callable[..., Report]) -> None:
    """Some tests of a clause need no hold: what they show is not the clause."""
    judgement = judge(catalogue, run(lacking=("peek",)))
    assert judgement.verdict is Verdict.INCOMPLETE
    assert judgement.open_ends[0].startswith("peek is not lent")


@pytest.mark.parametrize(
    "lacking", ["lose", "concurrent_lanes", "adopt", "host_pressure", "fork", "textures"]
)
def test_what_a_device_may_lack_is_an_exception(
    catalogue: Catalogue, run: Callable[..., Report], lacking: str
) -> None:
    core = [clause.id for clause in catalogue.binding("core") if lacking in clause.requires]
    judgement = judge(catalogue, run(dict.fromkeys(core, State.UNSUPPORTED), lacking=(lacking,)))
    assert judgement.verdict is Verdict.CONFORMANT
    assert judgement.exceptions == tuple(core)


def test_a_selection_is_judged_by_the_same_rule(catalogue: Catalogue, run: Callable[..., Report]) -> None:
    everything = judge(catalogue, run({"ring.budgeted": State.UNSUPPORTED}, selection="*.*"))
    assert everything.verdict is Verdict.NONCONFORMANT
    rings = run(selection="ring.*")
    judgement = judge(catalogue, rings)
    assert rings.verdict is judgement.verdict is Verdict.INCOMPLETE
    assert judgement.open_ends == ()
    (reason,) = judgement.left_out
    assert "'ring.*' leaves out" in reason
    assert judge(catalogue, run({"ring.stats": State.NOT_RUN}, selection="ring.*")).open_ends


@pytest.mark.parametrize("name", ["cuda-h200", "host", "wgpu-h200", "wgpu-llvmpipe"])
def test_our_own_backends_are_conformant(catalogue: Catalogue, name: str) -> None:
    report = read(Path(forge3d_core.__file__).parents[1] / "conformance" / "reports" / name)
    assert report.verdict is Verdict.CONFORMANT
    if (report.catalogue_version, report.catalogue_digest) == (catalogue.version, catalogue.digest):
        assert judge(catalogue, report).verdict is Verdict.CONFORMANT


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        (State.FAIL, Verdict.NONCONFORMANT),
        (State.NOT_RUN, Verdict.INCOMPLETE),
        (State.INCONCLUSIVE, Verdict.INCOMPLETE),
        (State.UNSUPPORTED, Verdict.CONFORMANT),
    ],
)
def test_one_extended_clause_at_full_level(
    run: Callable[..., Report], state: State, verdict: Verdict
) -> None:
    assert run({"device.adopt-order": state}, level="full").verdict is verdict


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.SURVIVED, "survived, so the test of ring.wraps proves nothing here: so it went"),
        (Outcome.NOT_RUN, "of ring.wraps was not run: so it went"),
    ],
)
def test_a_mutant_that_is_not_caught_takes_the_proof_away(
    catalogue: Catalogue,
    run: Callable[..., Report],
    self_test: Callable[..., tuple[MutantResult, ...]],
    outcome: Outcome,
    said: str,
) -> None:
    assert judge(catalogue, run(mutants=self_test())).verdict is Verdict.CONFORMANT
    judgement = judge(catalogue, run(mutants=self_test({"wraps/never": outcome})))
    assert judgement.verdict is Verdict.INCOMPLETE
    assert judgement.reasons == (f"mutant wraps/never {said}",)


def test_a_run_that_has_begun_proves_nothing(catalogue: Catalogue, begun: Report) -> None:
    judgement = judge(catalogue, begun)
    assert judgement.verdict is begun.verdict is Verdict.INCOMPLETE


def test_a_run_in_which_nothing_passed_is_not_conformant(
    catalogue: Catalogue, run: Callable[..., Report]
) -> None:
    core = [clause.id for clause in catalogue.binding("core")]
    report = run(dict.fromkeys(core, State.KNOWN_FAILURE))
    assert judge(catalogue, report).open_ends == ("no clause passed",)
    rings = run({"ring.wraps": State.KNOWN_FAILURE}, selection="ring.wraps")
    assert judge(catalogue, rings).open_ends == ("no clause passed",)
    nothing = attrs.evolve(report, clauses=())
    assert judge(catalogue, nothing).verdict is Verdict.INCOMPLETE


@given(data=st.data())
def test_conformant_means_that_no_core_clause_is_open(
    catalogue: Catalogue, run: Callable[..., Report], data: st.DataObject
) -> None:
    states = st.sampled_from([State.PASS] * 20 + [s for s in State if s is not State.PLANNED])
    chosen = {clause.id: data.draw(states) for clause in catalogue.binding("core")}
    lacking = data.draw(st.sampled_from([(), ("lose",), ("hold",), ("peek", "lose")]))
    phase = data.draw(st.sampled_from(Phase))
    try:
        report = run(chosen, lacking=lacking)
    except ReportError:
        return  # nothing was tested
    if phase is Phase.RUNNING:
        report = attrs.evolve(report, phase=phase, suite_digest=None)
    unfounded = any(
        state is State.UNSUPPORTED and not set(catalogue[id].requires) & set(lacking)
        for id, state in chosen.items()
    )
    model = (
        phase is Phase.FINISHED
        and not unfounded
        and not {"hold", "peek"} & set(lacking)
        and all(s in (State.PASS, State.UNSUPPORTED, State.KNOWN_FAILURE) for s in chosen.values())
        and State.PASS in chosen.values()
    )
    assert (judge(catalogue, report).verdict is Verdict.CONFORMANT) is model
