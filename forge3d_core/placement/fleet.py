"""A fleet: several devices that share work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar, get_args

from forge3d_core.arguments import function, sequence, shown
from forge3d_core.errors import BudgetExceeded, BudgetExhausted, DeviceLost, UsageError
from forge3d_core.placement.batch import Batch
from forge3d_core.placement.load import DeviceLoad, load_of
from forge3d_core.presentation import counted, line
from forge3d_core.protocols import Device
from forge3d_core.units import format_bytes, parse_bytes

T = TypeVar("T")
R = TypeVar("R")

OnError = Literal["raise", "return"]


class Fleet:
    """Devices that share work, of one backend or of several.

    Each has the budget that it was opened with (``open_device("cuda:1", budget="256 MiB")``); together they
    keep to that of the process. The fleet does not own them: it closes none. A device that was lost or
    closed gets nothing any more.

    Thread-safety: any thread; several batches may run at once.
    """

    def __init__(self, devices: Iterable[Device]) -> None:
        """Raises :class:`UsageError` for no device, or one that is named twice."""
        self.devices: tuple[Device, ...] = sequence("devices", devices)
        if not self.devices or len({id(device) for device in self.devices}) < len(self.devices):
            raise UsageError(f"a fleet is one device or more, each once, not {shown(self.devices)}")
        self._lost: dict[int, Exception] = {}
        self._batches: list[Batch] = []
        self._lock = threading.Lock()

    @property
    def usable(self) -> tuple[Device, ...]:
        """The devices that are neither closed nor known to be lost."""
        return tuple(device for _, device in self._open())

    def loads(self) -> tuple[DeviceLoad, ...]:
        """Return the load of each usable device."""
        return tuple(self._load(place) for place, _ in self._open())

    def least_loaded(self, nbytes: int | str = 0) -> Device:
        """Return the usable device with least to do whose budget has ``nbytes`` left; of equals the first.

        Least to do is fewest items of this fleet's batches, then fewest submissions that are not complete,
        then the smallest share of its memory in use. Raises :class:`BudgetExceeded` where no budget is that
        large, :class:`BudgetExhausted` where none has room now, :class:`DeviceLost` where no device is left.
        """
        wanted = parse_bytes(nbytes)
        loads = [(place, self._load(place)) for place, _ in self._open()]
        if not loads:
            raise self._none_left()
        fitting = [(load.order, place) for place, load in loads if load.available_bytes >= wanted]
        if fitting:
            return self.devices[min(fitting)[1]]
        most = max(load.limit_bytes for _, load in loads)
        if wanted > most:
            raise BudgetExceeded(
                f"{format_bytes(wanted)} are more than any budget of {counted(len(loads), 'device')}; the "
                f"largest is {format_bytes(most)}: raise one, or work in smaller pieces"
            )
        left = max(load.available_bytes for _, load in loads)
        raise BudgetExhausted(
            f"no device has {format_bytes(wanted)} left now, at most {format_bytes(left)}; wait, or close "
            "what is not needed"
        )

    def map(
        self, work: Callable[[Device, T], R], items: Iterable[T], *, on_error: OnError = "raise"
    ) -> list[R]:
        """Return ``work(device, item)`` of each item, in their order, spread over all usable devices.

        Each device has a thread that takes the next item when it is done with one. So ``work`` runs on
        several threads at once, one for each device, and should return when its result is there.

        Where a device is lost or closed, the item that it was working on goes to another, and so ``work`` may
        run twice for an item; the device gets nothing more. Where none is left, what is not done fails with
        :class:`DeviceLost`. Any other error is its item's: with ``raise`` no further item begins, and the
        error of the first that failed is raised when those that run have ended; with ``return`` it stands in
        the place of its result. An error has an attribute ``item``, its index. An interrupt begins no further
        item, and is raised when those that run have ended.
        """
        if on_error not in get_args(OnError):
            raise UsageError(f"on_error is 'raise' or 'return', not {shown(on_error)}")
        batch = Batch(list(items), function("work", work), keep_errors=on_error == "return")
        devices = self._open()
        if not devices:
            raise self._none_left()
        if not batch.items:
            return []
        with self._lock:
            self._batches.append(batch)
        try:
            lost = batch.run(devices)
        finally:
            with self._lock:
                self._batches.remove(batch)
        for place, error in lost:
            self._lost[place] = error
        if batch.errors and on_error == "raise":
            raise batch.errors[min(batch.errors)]
        return [batch.errors.get(index, result) for index, result in enumerate(batch.results)]

    def __len__(self) -> int:
        return len(self.devices)

    def __repr__(self) -> str:
        return line(f"fleet of {counted(len(self.devices), 'device')}", f"{len(self._open())} usable")

    def _open(self) -> list[tuple[int, Device]]:
        return [
            (place, device)
            for place, device in enumerate(self.devices)
            if place not in self._lost and not device.closed
        ]

    def _load(self, place: int) -> DeviceLoad:
        with self._lock:
            running = sum(batch.running.get(place, 0) for batch in self._batches)
        return load_of(self.devices[place], running)

    def _none_left(self) -> DeviceLost:
        error = DeviceLost(f"all {counted(len(self.devices), 'device')} of the fleet are lost or closed")
        error.__cause__ = next(iter(self._lost.values()), None)
        return error
