"""One report against another."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from hypothesis import given
from hypothesis import strategies as st

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.diff import Difference, MutantDifference, compare
from forge3d_conformance.report import MutantResult, Outcome, PerfResult, Report, State


def test_a_report_does_not_differ_from_itself(
    catalogue: Catalogue, run: Callable[..., Report], survivor: MutantResult
) -> None:
    report = run({"ring.wraps": State.FAIL}, mutants=(survivor,))
    found = compare(report, report)
    assert found.same
    assert (found.context, found.speeds, found.agreeing) == ((), (), len(catalogue))


def test_states_are_compared_clause_by_clause_with_their_notes(
    catalogue: Catalogue, run: Callable[..., Report]
) -> None:
    found = compare(run({"ring.wraps": State.FAIL}), run({"device.lost": State.UNSUPPORTED}))
    assert not found.same
    assert [(c.id, c.left, c.right) for c in found.clauses] == [
        ("ring.wraps", State.FAIL, State.PASS),
        ("device.lost", State.PASS, State.UNSUPPORTED),
    ]
    assert found.clauses[0].left_note == "expected 1, found 2"
    assert found.clauses[1].right_note == "the device cannot be lost"
    assert found.agreeing == len(catalogue) - 2


def test_a_clause_of_only_one_catalogue_is_a_difference(run: Callable[..., Report]) -> None:
    whole = run()
    shorter = attrs.evolve(whole, clauses=whole.clauses[1:])
    (gone,) = compare(whole, shorter).clauses
    (new,) = compare(shorter, whole).clauses
    assert (gone.id, gone.left, gone.right) == (whole.clauses[0].id, State.PASS, None)
    assert (new.left, new.right) == (None, State.PASS)


def test_where_the_runs_took_place_is_told(run: Callable[..., Report]) -> None:
    left = run()
    right = attrs.evolve(left, backend=attrs.evolve(left.backend, adapter="H200"), seed=8)
    found = compare(left, right)
    assert found.context == (Difference("adapter", "numpy", "H200"), Difference("seed", "7", "8"))
    assert found.same, "two places are not a difference in conformance"


def test_mutants_are_compared(run: Callable[..., Report], survivor: MutantResult) -> None:
    killed = attrs.evolve(survivor, outcome=Outcome.KILLED, killed_by=("test_wraps",))
    found = compare(run(mutants=(survivor,)), run(mutants=(killed,)))
    expected = MutantDifference(survivor.id, "ring.wraps", Outcome.SURVIVED, Outcome.KILLED)
    assert found.mutants == (expected,)
    stranger = attrs.evolve(killed, id="another")
    (_, new) = compare(run(mutants=(killed,)), run(mutants=(stranger,))).mutants or ()
    assert (new.left, new.right) in [(None, Outcome.KILLED), (Outcome.KILLED, None)]


def test_without_a_self_test_there_are_no_mutants_to_compare(
    run: Callable[..., Report], survivor: MutantResult
) -> None:
    found = compare(run(), run(mutants=(survivor,)))
    assert found.mutants is None
    assert found.same
    assert found.context[-1] == Difference("self-test", "none", "of 1 mutants")


def test_speeds_stand_beside_each_other(run: Callable[..., Report], speed: Callable[..., PerfResult]) -> None:
    left = run(performance=(speed(3.4), speed(2.0, case="1 GiB"), speed(case="here only")))
    right = run(performance=(speed(3.5), speed(4.0, case="1 GiB")))
    found = compare(left, right)
    assert [(s.case, s.intervals) for s in found.speeds] == [
        ("100 MB", "overlapping"),
        ("1 GiB", "apart"),
        ("here only", "one-sided"),
    ]
    assert found.same


@given(data=st.data())
def test_the_other_way_round_is_the_mirror_image(
    catalogue: Catalogue, run: Callable[..., Report], data: st.DataObject
) -> None:
    ids = [clause.id for clause in catalogue.select(status="active", level="core")]
    states = st.dictionaries(
        st.sampled_from(ids), st.sampled_from([s for s in State if s is not State.PLANNED]), max_size=6
    )
    left, right = run(data.draw(states)), run(data.draw(states))
    there, back = compare(left, right), compare(right, left)
    assert [(c.id, c.left, c.right) for c in there.clauses] == [(c.id, c.right, c.left) for c in back.clauses]
    assert there.agreeing == back.agreeing == len(catalogue) - len(there.clauses)
