"""What other threads tell the coroutines of an asyncio loop: much of it with one wake-up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque

from forge3d_core.errors import copy_exception

Waiting = asyncio.Future[None]


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
        elif not self._called:
            self._called = True
            self._call(future)

    def _call(self, future: Waiting) -> None:
        with contextlib.suppress(RuntimeError):  # the loop closed while the device worked
            future.get_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._called = False
        posts = self._posts
        while posts:
            future, error = posts.popleft()
            if not future.done():
                future.set_exception(copy_exception(error)) if error else future.set_result(None)


_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = weakref.WeakKeyDictionary()


def mailbox_of(loop: asyncio.AbstractEventLoop) -> Mailbox:
    """Return the mailbox of the running ``loop``; called on its thread."""
    box = _mailboxes.get(loop)
    if box is None:
        box = _mailboxes[loop] = Mailbox()
    return box
