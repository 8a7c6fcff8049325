"""A batch under way: what is still to do, which devices work on it, and what has come of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from forge3d_core.concurrency.threads import start_thread
from forge3d_core.errors import Closed, DeviceLost
from forge3d_core.protocols import Device

Work = Callable[[Device, Any], Any]


class Batch:
    """Items, each worked on by one device at a time; a thread for each device takes the next.

    So the device that is done first takes most. The lock guards all but the results, each of which is
    written by the one thread that has the item.
    """

    def __init__(self, items: Sequence[Any], work: Work, *, keep_errors: bool) -> None:
        self.items = items
        self.results: list[Any] = [None] * len(items)
        self.errors: dict[int, Exception] = {}
        self.running: dict[int, int] = {}  # by the device's place: items
        self._work = work
        self._keep_errors = keep_errors
        self._todo = deque(range(len(items)))
        self._threads = 0
        self._ended = False
        self._interrupt: BaseException | None = None
        self._lost: Exception | None = None
        self._changed = threading.Condition()

    def run(self, devices: Sequence[tuple[int, Device]]) -> list[tuple[int, Exception]]:
        """Work until all items are done or may not begin; return the devices that were lost, and why.

        An interrupt of the calling thread lets the items that are running end, and begins no more.
        """
        lost: list[tuple[int, Exception]] = []
        try:
            for place, device in devices:
                thread = threading.Thread(
                    target=self._serve, args=(place, device, lost), name=f"forge3d batch {place}", daemon=True
                )
                with self._changed:
                    self._threads += 1
                try:
                    start_thread(thread)
                except BaseException:
                    self._leave()
                    raise
            with self._changed:
                while self._threads:
                    self._changed.wait()
        except BaseException:
            self._ended = True
            with self._changed:
                while self._threads:
                    self._changed.wait()
            raise
        if self._interrupt is not None:
            raise self._interrupt
        for index in self._todo:
            if not self._ended:
                self.errors[index] = _of_item(_no_device(self._lost), index)
        return lost

    def _serve(self, place: int, device: Device, lost: list[tuple[int, Exception]]) -> None:
        try:
            while (index := self._next(place)) is not None:
                try:
                    self.results[index] = self._work(device, self.items[index])
                except Exception as error:
                    if isinstance(error, DeviceLost) or (isinstance(error, Closed) and device.closed):
                        lost.append((place, error))
                        self._hand_back(index, place, error)
                        return
                    self._failed(index, error)
                finally:
                    self._done(place)
        except BaseException as error:  # of the work: SystemExit, say; it is the caller's
            self._interrupt, self._ended = error, True
        finally:
            self._leave()

    def _next(self, place: int) -> int | None:
        """Return the next item; where others may yet hand one back, wait for that."""
        with self._changed:
            while not self._ended:
                if self._todo:
                    self.running[place] = 1
                    return self._todo.popleft()
                if not any(self.running.values()):
                    return None
                self._changed.wait()
        return None

    def _done(self, place: int) -> None:
        with self._changed:
            self.running[place] = 0
            self._changed.notify_all()

    def _hand_back(self, index: int, place: int, error: Exception) -> None:
        with self._changed:
            self._lost = error
            self._todo.appendleft(index)

    def _failed(self, index: int, error: Exception) -> None:
        with self._changed:
            self.errors[index] = _of_item(error, index)
            self._ended = self._ended or not self._keep_errors

    def _leave(self) -> None:
        with self._changed:
            self._threads -= 1
            self._changed.notify_all()


def _no_device(cause: Exception | None) -> DeviceLost:
    error = DeviceLost("all devices of this batch were lost or closed before this item was done; open others")
    error.__cause__ = cause
    return error


def _of_item(error: Exception, index: int) -> Exception:
    """Note on an error which item it is of."""
    error.add_note(f"in item {index} of the batch")
    error.item = index  # type: ignore[attr-defined]
    return error
