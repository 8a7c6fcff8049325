"""What this backend lends a conformance suite."""

from __future__ import annotations

from typing import Any

import numpy as np


class Hold:
    def __init__(self, machine: Any) -> None:
        self.held = True
        self._machine = machine
        machine.hold()

    def release(self) -> None:
        if self.held:
            self.held = False
            self._machine.let_go()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()


class StrangerSubject:
    capabilities = frozenset({"hold", "peek", "lose", "adopt", "host_pressure"})

    def hold(self, device: Any, lane: str, seconds: float) -> Hold:
        return Hold(device.machine)

    def peek(self, device: Any, buffer: Any, offset: int, nbytes: int) -> bytes:
        return bytes(buffer.native[offset : offset + nbytes])

    def poke(self, device: Any, buffer: Any, offset: int, data: bytes) -> None:
        buffer.native[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    def lose(self, device: Any) -> None:
        device.machine.lose("asked by the conformance suite")

    def foreign(self, device: Any, nbytes: int) -> Any:
        return np.zeros(nbytes, np.uint8)

    def fail_next_allocation(self, device: Any) -> None:
        device.refuse_next = True
