"""The line of coroutines for a block, by itself."""

from __future__ import annotations

import asyncio
import threading

from forge3d_core.readback.line import Line, Place


def test_a_long_line_looks_no_more_often_than_a_short_one() -> None:
    async def main() -> None:
        line = Line(threading.RLock())
        looks = []
        for count in (1, 100, 10_000):
            while len(line.places) < count:
                line.places[Place(line)] = None
            looks.append(count / line.look_seconds(first=False))
        assert looks[0] <= 1
        assert max(looks) <= 500
        assert line.look_seconds(first=True) <= 0.1

    asyncio.run(main())


def test_places_of_a_loop_that_closed_leave_the_line() -> None:
    line = Line(threading.RLock())

    async def stand(places: int) -> list[Place]:
        made = [Place(line) for _ in range(places)]
        line.places.update(dict.fromkeys(made))
        return made

    asyncio.run(stand(100))

    async def main() -> None:
        (mine,) = await stand(1)
        line.call()
        assert list(line.places) == [mine]
        assert mine.called is not None

    asyncio.run(main())
