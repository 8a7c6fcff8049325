"""What a mutant fails besides the clause that it breaks."""

from __future__ import annotations

import re

from forge3d_conformance.exactness import matching, settled, strays
from forge3d_conformance.mutants import Layer, Mutant
from forge3d_conformance.record import Record
from forge3d_conformance.running import run_suite

FILL = Mutant("driver.fill", "device.commands", re.compile("byte 3"), Layer)


def failing(clause: str, message: str = "ClauseViolation: byte 3") -> Record:
    return Record(clause, "test_it", "fail", mutant=FILL.name, message=message)


def test_a_failure_of_another_clause_is_a_stray_once() -> None:
    records = [failing("device.commands"), failing("device.threads"), failing("device.threads", "again")]
    (stray,) = strays([FILL], records)
    assert (stray.mutant, stray.breaks, stray.clause) == ("driver.fill", "device.commands", "device.threads")
    assert not [*strays([FILL], [Record("device.threads", "test_it", "pass", mutant=FILL.name)])]


def test_another_clauses_failure_kills_no_mutant() -> None:
    assert settled(FILL, "device.threads", [failing("device.threads")])
    assert not settled(FILL, "device.commands", [failing("device.threads")])
    assert not settled(FILL, "device.commands", [failing("device.commands", "for another reason")])
    assert settled(FILL, "device.commands", [failing("device.commands")])


def test_mutants_are_chosen_by_their_names_and_clauses() -> None:
    names = [mutant.name for mutant in matching("driver.fill-tail-?", ["device.commands"])]
    assert names == ["driver.fill-tail-1", "driver.fill-tail-2", "driver.fill-tail-3"]
    assert not matching("driver.fill-tail-?", ["ring.wraps"])


def test_a_run_tells_what_else_a_mutant_fails() -> None:
    arguments = ["--backend", "host", "--clause", "device.commands,fence.not-early", "--self-test"]
    ran = run_suite([*arguments, "--exact", "driver.fill-tail-1"], lambda _event: None)
    assert ran.last is not None, ran.output
    assert [mutant["id"] for mutant in ran.last["mutants"]] == ["driver.fill-tail-1"]
    assert ran.last["mutants"][0]["outcome"] == "killed"
    assert ran.last["strays"] == []
