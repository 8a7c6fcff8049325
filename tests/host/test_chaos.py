"""The adversary: replayable from its seed, and as unkind as a device may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge3d_core.errors import DeviceLost, OutOfDeviceMemory
from forge3d_core.host.chaos import Decision
from forge3d_core.host.driver import HostDriver
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import HostOptions

LANES = ("upload", "compute", "download")
PATIENCE = 20.0


def program(rig: Any, effort: int = 0) -> tuple[list[int], list[str]]:
    """Run a fixed program over three lanes; return the order in which kernels ran, and what it was told.

    ``effort`` makes the kernels slower, which must change nothing.
    """
    ran: list[int] = []
    told: list[str] = []
    tokens: dict[str, Any] = {}
    for i in range(24):
        lane = LANES[i % 3]
        after = tuple(tokens.values())[-4:-2] if i % 5 == 0 else ()
        tokens[f"{lane}{i}"] = rig.call(lane, lambda i=i: ran.append(i + 0 * sum(range(effort))), after)
        if i % 4 == 3:
            told.extend(name for name, token in tokens.items() if rig.driver.query(token))
    rig.finish(*tokens.values())
    return ran, told


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_the_same_seed_replays(make: Callable[[str], Any], seed: int) -> None:
    first, second = make(f"?seed={seed}"), make(f"?seed={seed}&chaos=1")
    assert program(first) == program(second, effort=20_000)
    assert first.driver.trace() == second.driver.trace()
    assert len(first.driver.trace()) > 24


def test_other_seeds_differ(make: Callable[[str], Any]) -> None:
    orders = set()
    for seed in range(8):
        rig = make(f"?seed={seed}")
        program(rig)
        orders.add(tuple(d for d in rig.driver.trace() if d.act != "submit"))
    assert len(orders) == 8


def test_without_chaos_there_is_no_trace(make: Callable[[str], Any]) -> None:
    rig = make("")
    program(rig)
    assert rig.driver.trace() == ()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    plan=st.lists(st.tuples(st.sampled_from(LANES), st.lists(st.integers(1, 5), max_size=2)), max_size=20),
    polls=st.integers(0, 40),
)
def test_any_order_is_one_that_a_device_could_have(
    seed: int, plan: list[tuple[str, list[int]]], polls: int
) -> None:
    driver = HostDriver(HostMachine(HostOptions(seed=seed)))
    tokens: list[Any] = []
    edges: list[tuple[int, int]] = []
    for number, (lane, back) in enumerate(plan, 1):
        named = [number - b for b in back if number - b >= 1]
        edges.extend((earlier, number) for earlier in named)
        tokens.append(driver.submit(lane, [], [tokens[earlier - 1] for earlier in named]))
    for i in range(polls if tokens else 0):
        driver.query(tokens[i % len(tokens)])
    for token in tokens:
        assert driver.wait(token, PATIENCE)
    driver.close(PATIENCE)
    trace = driver.trace()
    at = {(d.act, d.number): i for i, d in enumerate(trace)}
    assert len(at) == len(trace) == 3 * len(plan)
    for number in range(1, len(plan) + 1):
        assert at["submit", number] < at["start", number] < at["land", number]
    assert all(at["start", earlier] < at["start", later] for earlier, later in edges)
    for lane in LANES:
        mine = [n for n, (name, _) in enumerate(plan, 1) if name == lane]
        starts, lands = [at["start", n] for n in mine], [at["land", n] for n in mine]
        assert starts == sorted(starts)
        assert lands == sorted(lands)


def test_polling_alone_gets_there(make: Callable[[str], Any]) -> None:
    rig = make("?seed=3")
    tokens = [rig.call(lane, lambda: None) for lane in LANES * 5]
    most = 2 * len(tokens)
    assert any(rig.driver.query(tokens[-1]) for _ in range(most))


def test_some_seed_hides_what_has_run(make: Callable[[str], Any]) -> None:
    """The fault that chaos is for: memory has changed and the token does not say so yet."""
    hidden = 0
    for seed in range(20):
        ran: list[int] = []
        rig = make(f"?seed={seed}")
        token = rig.call("compute", lambda ran=ran: ran.append(1))
        other = rig.call("upload", lambda: None)
        rig.finish(other)
        acts = {(d.act, d.number) for d in rig.driver.trace()}
        hidden += ("start", token.number) in acts and ("land", token.number) not in acts
    assert 0 < hidden < 20


@pytest.mark.parametrize("chaos", [0, 1])
def test_lost_with_the_nth_submission(make: Callable[[str], Any], chaos: int) -> None:
    rig = make(f"?seed=5&chaos={chaos}&lose_after=3")
    rig.finish(rig.call("upload", lambda: None), rig.call("compute", lambda: None))
    third = rig.call("download", lambda: None)
    with pytest.raises(DeviceLost, match="lose_after=3"):
        rig.driver.query(third)
    with pytest.raises(DeviceLost):
        rig.call("upload", lambda: None)
    if chaos:
        assert rig.driver.trace()[-1] == Decision("lose", "", 3)


def test_out_of_memory_at_the_nth_allocation(make: Callable[[str], Any]) -> None:
    rig = make("?seed=5&oom_at=2")
    rig.driver.allocate_buffer(1)
    with pytest.raises(OutOfDeviceMemory, match="allocation 2"):
        rig.driver.allocate_buffer(1)
    rig.driver.allocate_buffer(1)
    assert rig.driver.trace() == (Decision("refuse", "", 2),)
