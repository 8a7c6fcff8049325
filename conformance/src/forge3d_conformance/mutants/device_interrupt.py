"""Devices that an exception out of a signal handler leaves half way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import ForgeError


class Cut(Layer):
    """Notes when a call of a ring was cut short by what is no error of forge3d's."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    @contextmanager
    def noticing(self, noun: Any) -> Iterator[None]:
        try:
            yield
        except ForgeError:
            raise
        except BaseException:
            self.after(noun)
            raise

    def after(self, noun: Any) -> None:
        """Do what the defect does after an interrupt of a call of ``noun``."""

    class Ring(Layer.Ring):
        layer: Any

        def upload(self, *args: Any, **named: Any) -> Any:
            with self.layer.noticing(self):
                return self.real.upload(*args, **named)

        def advance(self, timeout: float | None = None) -> Any:
            with self.layer.noticing(self):
                return self.real.advance(timeout)


@mutant("device.interrupt-leaks", breaks="device.interrupt", because="bytes did not come back")
class InterruptLeaks(Cut):
    """What an interrupted call had reserved is never given back."""

    def after(self, _noun: Any) -> None:
        for device in self.lasting("Device"):
            self.kept.append(device.target.budget.reserve(64))


@mutant("device.interrupt-keeps-a-lock", breaks="device.interrupt", because="did not come back within")
class InterruptKeepsALock(Cut):
    """A lock that an interrupted call had taken stays locked."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()

    def after(self, _noun: Any) -> None:
        self.lock.acquire()

    class Ring(Cut.Ring):
        def upload(self, *args: Any, **named: Any) -> Any:
            with self.layer.lock:
                return super().upload(*args, **named)


@mutant("device.interrupt-drops-the-next", breaks="device.interrupt", because="bytes after an interrupt: ")
class InterruptDropsTheNext(Cut):
    """The upload that follows an interrupted one brings nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def after(self, noun: Any) -> None:
        self.cut = self.cut or isinstance(noun, Layer.Ring)

    class Ring(Cut.Ring):
        def upload(self, *args: Any, **named: Any) -> Any:
            if self.layer.cut:
                self.layer.cut = False
                return self.real.advance()
            return super().upload(*args, **named)
