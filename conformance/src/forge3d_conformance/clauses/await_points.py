"""Ending coroutines at each of their await points in turn, and in each way that there is."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any

import attrs

from forge3d_conformance.bench import HELD, Bench
from forge3d_conformance.holding import Holding

WAYS = ("cancel", "raise", "drop", "kill")
"""The task is cancelled; the await raises an error; the coroutine is closed; its loop stops for good."""

MAX_POINTS = 8
"""From here on a wait only looks again and again whether the device goes on."""

BRIEF = 0.1
"""Seconds of a hold that has only to make the first await wait."""

Make = Callable[[], Coroutine[Any, Any, Any]]


class Struck(Exception):
    """What comes out of an await in the way "raise"."""


@attrs.define(eq=False)
class Ending:
    """A coroutine that ends at its await number ``at`` in one way, and how many awaits it came to."""

    what: str
    make: Make
    way: str
    at: int
    count: int = 0
    went_on: bool = False

    def run(self) -> None:
        """Run the coroutine to that await, on a loop of its own."""
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # of tasks that are killed
        try:
            loop.run_until_complete(self._main())
        except (asyncio.CancelledError, Struck):
            pass
        except RuntimeError as error:
            if self.way != "kill" or "stopped" not in str(error):
                raise
        finally:
            loop.close()

    async def _main(self) -> None:
        await _stepped(self.make(), self)

    def __str__(self) -> str:
        return f"{self.what}, {self.way} at await {self.at}"


@types.coroutine
def _stepped(inner: Coroutine[Any, Any, Any], ending: Ending) -> Generator[Any, None, Any]:
    step: Callable[[], Any] = partial(inner.send, None)
    try:
        while True:
            try:
                waiting = step()
            except StopIteration as ended:
                ending.went_on = ending.count >= ending.at and ending.way in ("cancel", "raise")
                return ended.value
            ending.count += 1
            step = partial(inner.send, None)
            if ending.count == ending.at:
                match ending.way:
                    case "cancel":
                        task = asyncio.current_task()
                        assert task is not None
                        task.cancel()
                    case "raise":
                        step = partial(inner.throw, Struck("an error at an await"))
                        continue
                    case "drop":
                        return None
                    case _:
                        asyncio.get_running_loop().stop()
            try:
                yield waiting
            except GeneratorExit:  # nothing runs it any more
                raise
            except BaseException as error:
                step = partial(inner.throw, error)
    finally:
        inner.close()


def sweep(
    bench: Bench,
    hold: Callable[[float], Holding],
    makes: Mapping[str, Callable[[], Make]],
    after: Callable[[], None],
) -> None:
    """End the coroutines of ``makes`` at each await in each way, beside each other; a lane is held at first.

    Each of ``makes`` gives what makes the coroutines of one way, with objects of their own. ``after`` checks
    what is left, once the lane goes on. What a loop that stops for good keeps is asked of those alone that
    have all calls for coroutines.
    """
    ways = WAYS if "async_ring" in bench.capabilities else WAYS[:-1]
    made = {(what, way): make() for what, make in makes.items() for way in ways}
    for at in range(1, MAX_POINTS + 1):
        endings = [Ending(what, make, way, at) for (what, way), make in made.items()]
        with hold(HELD if at == 1 else BRIEF) as held:
            runs = [bench.thread(ending.run) for ending in endings]
            if at == 1:
                for run, ending in zip(runs, endings, strict=True):
                    held.observe(bench.result, run, str(ending))
                for ending in endings:
                    held.observe(bench.check, ending.count, f"{ending}: it did not wait for the device")
            else:
                pairs = list(zip(runs, endings, strict=True))
                bench.until(lambda: all(run.done() or e.count for run, e in pairs), "the first awaits")  # noqa: B023
        for run, ending in zip(runs, endings, strict=True):
            bench.result(run, str(ending))
            bench.check(not ending.went_on, f"{ending}: went on notwithstanding")
        gc.collect()  # what loops that stopped had, now that nothing more comes for it
        after()
        if not any(ending.count >= at for ending in endings):
            return
