"""Turns: in order, one at a time, and none is lost to a cancelled coroutine."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from forge3d_core.concurrency.turns import Turns

trio: Any = pytest.importorskip("trio")


def test_first_come_first_served() -> None:
    async def main() -> list[int]:
        turns, seen = Turns(), list[int]()

        async def one(number: int) -> None:
            async with turns:
                await asyncio.sleep(0)
                seen.append(number)

        await asyncio.gather(*(one(number) for number in range(20)))
        return seen

    assert asyncio.run(main()) == list(range(20))


def test_under_trio() -> None:
    turns, seen, inside = Turns(), list[int](), 0

    async def one(number: int) -> None:
        nonlocal inside
        async with turns:
            inside += 1
            await trio.lowlevel.checkpoint()
            assert inside == 1
            seen.append(number)
            inside -= 1

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)

    trio.run(main)
    assert sorted(seen) == list(range(20))


@pytest.mark.parametrize("seed", range(20))
def test_cancelled_ones_hold_up_none(seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> tuple[set[int], set[int]]:
        turns, done, inside = Turns(), set[int](), 0

        async def one(number: int) -> None:
            nonlocal inside
            async with turns:
                inside += 1
                try:
                    assert inside == 1
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                    done.add(number)
                finally:
                    inside -= 1

        tasks = [asyncio.create_task(one(number)) for number in range(30)]
        for _ in range(40):
            await asyncio.sleep(0)
            chance.choice(tasks).cancel()
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        return done, {number for number, end in enumerate(ended) if end is None}

    done, well = asyncio.run(main())
    assert done >= well
    assert done
