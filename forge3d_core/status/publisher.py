"""The thread that tells what a process's devices hold, where the environment asks for it.

Without ``FORGE3D_TOP`` there is no thread and no file, and opening a device looks at the environment once.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import warnings
import weakref
from typing import Any

import attrs

from forge3d_core.errors import UsageError
from forge3d_core.forking import renew_in_child
from forge3d_core.memory.budget import Ledger
from forge3d_core.memory.process import global_tracker
from forge3d_core.protocols import Device, DeviceInfo
from forge3d_core.status.board import Board
from forge3d_core.status.figures import DeviceStatus, ProcessStatus, budget_status, device_status

SECONDS = 0.25

MAX_CLOSED = 8
"""So many closed devices are still told of, the last."""


@attrs.define(eq=False)
class _Watched:
    """A device that this process opened, known weakly, and the last that was seen of it.

    A budget of the core outlives its device and keeps nothing of it, so its peaks are told to the end.
    """

    device: weakref.ref[Device]
    info: DeviceInfo
    budget: Ledger | None
    last: DeviceStatus

    def look(self) -> None:
        device = self.device()
        if device is not None and not device.closed:
            self.last = device_status(device, device.budget.metrics())
        elif self.last.open:
            metrics = None if self.budget is None else self.budget.metrics()
            closed = self.last if metrics is None else budget_status(self.info, metrics, is_open=False)
            self.last = attrs.evolve(closed, open=False)
            self.budget = None


class Publisher:
    """Tells of the devices of this process until it ends. Thread-safety: any thread."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin anew in a forked child: its parent tells of its parent's devices."""
        self._lock = threading.Lock()
        self._board: Board | None = None
        self._watched: list[_Watched] = []
        self._closed = 0

    def add(self, device: Device) -> None:
        """Tell of a device from now on, if the environment asks for it; what hinders that is a warning."""
        board = Board.asked_for()
        if board is None:
            return
        try:
            budget = device.budget if isinstance(device.budget, Ledger) else None
            watched = _Watched(
                weakref.ref(device), device.info, budget, device_status(device, device.budget.metrics())
            )
            with self._lock:
                started, self._board = self._board is not None, self._board or board
                self._watched.append(watched)
            if not started:
                board.prepare()
                threading.Thread(target=self._run, args=(board,), name="forge3d-top", daemon=True).start()
            self.tell()
        except (UsageError, OSError, TypeError, RuntimeError) as error:
            warnings.warn(f"this process does not tell of its devices: {error}", RuntimeWarning, stacklevel=4)

    def tell(self, *, ended: bool = False) -> None:
        """Look at the devices, and tell."""
        with self._lock:
            if (board := self._board) is not None:
                board.write(self._status(ended))

    def end(self) -> None:
        """Tell for the last time."""
        board = self._board
        if board is None:
            return
        with contextlib.suppress(Exception):  # an interpreter that ends has no use for it
            if board.shared:
                with self._lock:
                    self._board = None
                board.remove(os.getpid())
            else:
                self.tell(ended=True)

    def _status(self, ended: bool) -> ProcessStatus:
        for watched in self._watched:
            watched.look()
        closed = [watched for watched in self._watched if not watched.last.open]
        for watched in closed[:-MAX_CLOSED]:
            self._watched.remove(watched)
            self._closed += 1
        process = global_tracker().get_metrics()
        return ProcessStatus(
            pid=os.getpid(),
            program=os.path.basename(sys.argv[0])[:200],  # its arguments are none of another's business
            time=time.time(),
            ended=ended,
            host_visible_bytes=process.host_visible_bytes,
            limit_bytes=process.limit_bytes,
            peak_host_visible_bytes=process.peak_host_visible_bytes,
            devices=tuple(watched.last for watched in self._watched),
            closed_devices=self._closed + len(closed[-MAX_CLOSED:]),
        )

    def _run(self, board: Board) -> None:
        pause = threading.Event()
        while self._board is board:
            pause.wait(SECONDS)
            try:
                self.tell()
            except OSError:  # the folder is gone, and with it those who looked
                return
            except Exception as error:  # a device of a stranger's, say
                problem: Any = error
                warnings.warn(f"telling of the devices failed: {problem}", RuntimeWarning, stacklevel=1)
                return


PUBLISHER = Publisher()
atexit.register(PUBLISHER.end)
