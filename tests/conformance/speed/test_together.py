"""Several devices at once: each has its thread, and what they move together is counted as such."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from typer.testing import CliRunner

import forge3d_core
from forge3d_conformance.commands.bench import app
from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.together import CLAUSES, Team, measure_together
from forge3d_core import Device


@pytest.fixture
def devices() -> Iterator[list[Device]]:
    with ExitStack() as stack:
        yield [stack.enter_context(forge3d_core.open_device("host")) for _ in range(2)]


def test_each_operation_stands_beside_one_alone_and_beside_the_raw_sum(devices: list[Device]) -> None:
    report = measure_together(devices, 0.0, size=64_000)
    assert not report.missing
    assert {row.ours for row in report.rows} == {f"{operation} on 2" for operation in CLAUSES}
    assert {row.raw for row in report.rows if row.ours == "lease on 2"} == {
        "forge3d/lease on 1",
        "thread/copy on 2",
    }
    for device in devices:
        device.wait_idle()
        assert device.budget.metrics().total_bytes == 0


class Noting:
    """A contestant that notes on which thread it is used."""

    name = "noting"

    def __init__(self, device: Device) -> None:
        self.threads = {threading.get_ident()}

    def note(self) -> None:
        self.threads.add(threading.get_ident())

    def runner(self, operation: str, nbytes: int) -> Runner:
        self.note()
        return Runner(self.note, self.note, close=self.note)

    def close(self) -> None:
        self.note()


def test_a_device_is_used_on_its_own_thread_alone(devices: list[Device]) -> None:
    members: list[Noting] = []

    def make(device: Device) -> Noting:
        members.append(Noting(device))
        return members[-1]

    team = Team(devices, make)
    runner = team.runner("anything", 1)
    runner.call()
    runner.settle()
    runner.close()
    team.close()
    assert runner.operations == 2
    assert [len(member.threads) for member in members] == [1, 1]
    assert members[0].threads != members[1].threads
    assert threading.get_ident() not in members[0].threads | members[1].threads


def test_more_devices_than_there_are_is_an_error() -> None:
    ended = CliRunner().invoke(app, ["--backend", "host", "--devices", "16"])
    assert ended.exit_code == 2
    assert "--devices 16: host has" in ended.output
