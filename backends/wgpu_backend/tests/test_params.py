"""Parameters: each dispatch finds its own, and what is there already is not written."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest


def test_parameters_that_change_are_written_once_for_a_submission(
    native_calls: Counter[str], counted: Any
) -> None:
    rig, commands = counted, counted.commands()
    rig.run(commands.add(0))
    native_calls.clear()
    rig.run(*[commands.add(step) for step in range(1, 33)])
    assert native_calls["wgpuQueueWriteBuffer"] == 1
    expected = 0
    for step in range(33):
        expected = (expected * 3 + step) % 2**32
    assert rig.read(commands.data).view("u4")[:17].tolist() == [expected] * 16 + [0]


@pytest.mark.parametrize("sets", [1, 64, 65, 200])
def test_every_dispatch_finds_its_own_parameters(rig: Any, sets: int) -> None:
    """Some lists need more than one buffer for them; submissions in flight share those."""
    commands, expected = rig.commands(), 0
    tokens = []
    for first in (1, 1000, 1):
        steps = range(first, first + sets)
        tokens.append(rig.submit(*map(commands.add, steps)))
        for step in steps:
            expected = (expected * 3 + step) % 2**32
    for token in tokens:
        rig.finish(token)
    assert rig.read(commands.data).view("u4")[:16].tolist() == [expected] * 16
