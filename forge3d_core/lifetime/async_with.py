"""``async with`` on what closes: the loop goes on while it does."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from forge3d_core.concurrency.loops import in_thread
from forge3d_core.lifetime.teardown import close_elsewhere


class AsyncWith:
    """Gives a class with ``with`` the same for coroutines, under asyncio and trio.

    Closing may wait for the device, so it happens on a thread of its own; it is waited for to its end, in a
    task that is cancelled as well, so what follows the block finds all of it given back. A coroutine that
    is closed, or that the collector found, may not wait any more: there the close goes on by itself.
    """

    __slots__ = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        leave: Any = getattr(self, "__exit__")  # noqa: B009 - of the class that this is mixed into
        close = partial(leave, *exc_info)
        if exc_info[0] is not GeneratorExit:
            await in_thread(close)
        elif not close_elsewhere(close, repr(self)):
            close()
