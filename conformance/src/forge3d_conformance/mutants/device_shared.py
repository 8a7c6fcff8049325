"""Devices that keep their owner's order, or their threads, no better than it just so happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer, unwrap
from forge3d_core.errors import DeviceLost, ForgeError, KernelError


class LateRead:
    """A handle whose read begins when it is waited for."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self.begin = begin

    def wait(self, timeout: float | None = None) -> Any:
        return self.begin().wait(timeout)


@mutant("device.adopt-reads-later", breaks="device.adopt-order", because="the read behind the owner's write")
class AdoptReadsLater(Layer):
    """A read is noted, and submitted when there is time for it: behind what the owner wrote meanwhile."""

    class Pool(Layer.Pool):
        def read(self, source: Any, **kwargs: Any) -> Any:
            return LateRead(lambda: self.target.read(unwrap(source), **kwargs))


@mutant("device.adopt-works-later", breaks="device.adopt-order", because="between the owner's writes")
class AdoptWorksLater(Layer):
    """Work is gathered, and goes to the queue when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered: list[Callable[[], Any]] = []

    class Device(Layer.Device):
        def submit(self, commands: Any, **kwargs: Any) -> Any:
            self.layer.gathered.append(lambda: self.target.submit(commands.target, **kwargs))  # type: ignore[attr-defined]

        def readback_pool(self, *args: Any, **kwargs: Any) -> Any:
            gathered = self.layer.gathered  # type: ignore[attr-defined]
            while gathered:
                gathered.pop(0)()
            return self.real.readback_pool(*args, **kwargs)


@mutant("device.a-loss-ends-the-process", breaks="device.lost-race", because="did not end as DeviceLost")
class ALossEndsTheProcess(Layer):
    """The native library ends the process when work meets a lost device."""

    class Ring(Layer.Ring):
        def upload(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.upload(*args, **kwargs)
            except DeviceLost:
                os.abort()


@mutant("device.a-loss-is-anything", breaks="device.lost-race", because="instead of DeviceLost")
class ALossIsAnything(Layer):
    """Threads that worked when the device was lost see what the native library said, whatever that was."""

    class Ring(Layer.Ring):
        def upload(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.upload(*args, **kwargs)
            except DeviceLost as error:
                if threading.current_thread() is not threading.main_thread():
                    raise ForgeError(f"validation error: {error}") from None
                raise

    class Pool(Layer.Pool):
        def read(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.read(*args, **kwargs)
            except DeviceLost as error:
                raise ForgeError(f"validation error: {error}") from None


@mutant("device.whole-workgroups-only", breaks="device.workgroup", because="threads ran")
class WholeWorkgroupsOnly(Layer):
    """What does not fill a workgroup does not run."""

    class Commands(Layer.Commands):
        def dispatch(self, kernel: Any, buffers: Any, params: Any = (), **kwargs: Any) -> Any:
            size = kernel.target.source.workgroup[0]
            *rest, count = params
            return self.real.dispatch(kernel, buffers, [*rest, count // size * size], **kwargs)


@mutant("device.workgroup-all-refused", breaks="device.workgroup", because="was refused")
class WorkgroupAllRefused(Layer):
    """No kernel is taken: its source could say another size of workgroup."""

    class Device(Layer.Device):
        def create_kernel(self, source: Any) -> Any:
            raise KernelError(f"a workgroup of {source.workgroup} may not be what the source says")
