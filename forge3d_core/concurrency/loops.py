"""What other threads tell coroutines, under asyncio and under trio.

A coroutine waits for an :class:`Outcome`, which any thread settles, or for a :class:`Bell`, which any thread
rings, or with :func:`in_thread` for a call that may block. Which library runs it is found when the wait
begins; trio is asked where the program has imported it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from forge3d_core.errors import StateError, copy_exception

Waiting = asyncio.Future[None]

T = TypeVar("T")


class Mailbox:
    """Outcomes for the futures of one loop, which are delivered on it in the order of posting.

    To wake a loop costs a system call and a turn of the interpreter's lock, so a post calls the loop only
    where no delivery is on its way. ``_called`` is cleared before a delivery looks, so what is posted
    from then on calls again.

    Thread-safety: any thread posts. A post of the main thread always calls: an interrupt between the flag and
    the call would leave the flag set, and all later posts without a delivery.
    """

    __slots__ = ("__weakref__", "_called", "_posts")

    def __init__(self) -> None:
        self._posts: deque[tuple[Waiting, Exception | None]] = deque()
        self._called = False

    def post(self, future: Waiting, error: Exception | None) -> None:
        """Have ``future`` end with ``error``, or without one. Does nothing once its loop is closed."""
        self._posts.append((future, error))
        if threading.current_thread() is threading.main_thread():
            self._call(future)
        elif not self._called or future.get_loop().is_closed():
            self._called = True
            self._call(future)

    def _call(self, future: Waiting) -> None:
        try:
            future.get_loop().call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop closed while the device worked
            self._posts.clear()  # or they would keep the loop, its tasks and what these hold

    def _deliver(self) -> None:
        self._called = False
        posts = self._posts
        while posts:
            future, error = posts.popleft()
            if not future.done():
                future.set_exception(copy_exception(error)) if error else future.set_result(None)


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Mailbox]] = (
    weakref.WeakKeyDictionary()
)
"""By loop, weakly both ways: what is posted leads to its loop, and would keep one that stopped for good."""


def mailbox_of(loop: asyncio.AbstractEventLoop) -> Mailbox:
    """Return the mailbox of the running ``loop``; called on its thread.

    The outcomes that were made with it keep it, and a delivery on its way.
    """
    known = _mailboxes.get(loop)
    box = None if known is None else known()
    if box is None:
        box = Mailbox()
        _mailboxes[loop] = weakref.ref(box)
    return box


class Outcome(Protocol):
    """What one coroutine waits for."""

    def settle(self, error: Exception | None) -> None:
        """End the wait, with ``error`` or without one; any thread, once."""

    async def over(self) -> None:
        """Wait until it is settled, and raise a copy of the error."""


def outcome() -> Outcome:
    """Return what the calling coroutine may wait for. Raises :class:`StateError` outside asyncio and trio."""
    trio = _trio()
    return _OfAsyncio() if trio is None else _OfTrio(trio)


class _OfAsyncio:
    __slots__ = ("_box", "_future")

    def __init__(self) -> None:
        loop = _running_loop()
        self._future: Waiting = loop.create_future()
        self._box = mailbox_of(loop)

    def settle(self, error: Exception | None) -> None:
        self._box.post(self._future, error)

    async def over(self) -> None:
        await self._future


class _OfTrio:
    __slots__ = ("_error", "_event", "_finished", "_token")

    def __init__(self, trio: Any) -> None:
        self._error: Exception | None = None
        self._event, self._finished = trio.Event(), trio.RunFinishedError
        self._token = trio.lowlevel.current_trio_token()

    def settle(self, error: Exception | None) -> None:
        self._error = error
        with contextlib.suppress(self._finished):
            self._token.run_sync_soon(self._event.set)

    async def over(self) -> None:
        await self._event.wait()
        if self._error is not None:
            raise copy_exception(self._error)


class Bell(Protocol):
    """What one coroutine waits for again and again."""

    def ring(self) -> bool:
        """End the wait, or the next; any thread. False once the loop has closed: no wait goes on there."""

    async def wait(self, seconds: float) -> None:
        """Wait until it has rung, for up to ``seconds``."""


def bell() -> Bell:
    """Return a bell for the calling coroutine. Raises :class:`StateError` outside asyncio and trio."""
    trio = _trio()
    return _AsyncioBell() if trio is None else _TrioBell(trio)


class _AsyncioBell:
    __slots__ = ("_event", "_loop")

    def __init__(self) -> None:
        self._loop, self._event = _running_loop(), asyncio.Event()

    def ring(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            return False
        return True

    async def wait(self, seconds: float) -> None:
        timer = self._loop.call_later(seconds, self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()
        self._event.clear()


class _TrioBell:
    __slots__ = ("_event", "_token", "_trio")

    def __init__(self, trio: Any) -> None:
        self._trio, self._event = trio, trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def ring(self) -> bool:
        try:
            self._token.run_sync_soon(self._set)
        except self._trio.RunFinishedError:
            return False
        return True

    async def wait(self, seconds: float) -> None:
        with self._trio.move_on_after(seconds):
            await self._event.wait()
        self._event = self._trio.Event()

    def _set(self) -> None:
        self._event.set()


async def pause() -> None:
    """Let the other tasks of the loop run once."""
    trio = _trio()
    await (asyncio.sleep(0) if trio is None else trio.lowlevel.checkpoint())


async def in_thread(call: Callable[[], T]) -> T:
    """Return ``call()``, made on a thread of its own: for what may block and must not be left half done.

    A cancellation does not end the wait; under asyncio it is raised afterwards, under trio at the next
    checkpoint. Where no thread can start the calling one makes the call.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    try:
        threading.Thread(target=run, name="forge3d-close").start()
    except RuntimeError:
        return call()
    trio, cancelled = _trio(), None
    while not future.done():
        awaited = outcome()
        future.add_done_callback(lambda _future, awaited=awaited: awaited.settle(None))  # type: ignore[misc]
        try:
            with contextlib.nullcontext() if trio is None else trio.CancelScope(shield=True):
                await awaited.over()
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled
    return future.result()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    raise StateError(
        "this coroutine runs neither under asyncio nor under trio, so nothing can wake it; await it in a "
        "task of one of the two, or use the call without async, such as wait() or read()"
    )


def _trio() -> Any | None:
    """Return trio's module if it runs the calling coroutine: a task of asyncio's may run beside a guest."""
    trio: Any = sys.modules.get("trio")
    if trio is None or not hasattr(trio, "lowlevel"):
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio
