"""Outcomes that other threads post to an asyncio loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from forge3d_core.concurrency.loops import mailbox_of


def test_many_posts_of_a_thread_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        calls = 0
        call = loop.call_soon_threadsafe

        def counted(*wanted: Any) -> Any:
            nonlocal calls
            calls += 1
            return call(*wanted)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        futures = [loop.create_future() for _ in range(100)]
        box = mailbox_of(loop)
        assert mailbox_of(loop) is box

        def post() -> None:
            for number, future in enumerate(futures):
                box.post(future, ValueError(str(number)) if number % 2 else None)

        thread = threading.Thread(target=post)
        thread.start()
        thread.join()  # the loop stands still meanwhile
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), ValueError] * 50
        return calls

    assert asyncio.run(main()) == 1


def test_posts_go_on_after_a_delivery_and_after_the_loop_is_closed() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            future = loop.create_future()
            thread = threading.Thread(target=mailbox_of(loop).post, args=(future, None))
            thread.start()
            await future
            thread.join()
        late.append((mailbox_of(loop), loop.create_future()))

    late: list[Any] = []
    asyncio.run(main())
    (box, future), *_ = late
    box.post(future, None)
    assert not future.done()


def test_a_loop_that_stopped_for_good_is_kept_by_no_post() -> None:
    loop = asyncio.new_event_loop()

    async def main() -> None:
        running = asyncio.get_running_loop()
        future = running.create_future()
        posted.append(weakref.ref(future))
        thread = threading.Thread(target=mailbox_of(running).post, args=(future, None))
        thread.start()
        thread.join()
        running.stop()  # before what was posted is delivered
        await future

    posted: list[weakref.ref[Any]] = []
    task = loop.create_task(main())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    here = weakref.ref(loop)
    del loop, task
    gc.collect()
    assert posted[0]() is None
    assert here() is None
