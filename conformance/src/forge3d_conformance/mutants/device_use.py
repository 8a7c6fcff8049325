"""Devices that keep a compiler's words to themselves, or take one thread at a time."""

from __future__ import annotations

import threading
from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import ForgeError, KernelError


@mutant(
    "device.kernel-error-says-nothing", breaks="device.kernel-errors", because="does not (say where|name)"
)
class KernelErrorSaysNothing(Layer):
    """The compiler's log is thrown away."""

    class Device(Layer.Device):
        def create_kernel(self, source: Any) -> Any:
            try:
                return self.real.create_kernel(source)
            except KernelError:
                raise KernelError("a kernel failed to compile") from None


@mutant(
    "device.kernel-error-leaks", breaks="device.kernel-errors", because="RuntimeError.*instead of KernelError"
)
class KernelErrorLeaks(Layer):
    """The API's own exception comes through."""

    class Device(Layer.Device):
        def create_kernel(self, source: Any) -> Any:
            try:
                return self.real.create_kernel(source)
            except KernelError as error:
                raise RuntimeError(str(error)) from None


@mutant("device.kernel-error-late", breaks="device.kernel-errors", because="nothing was raised")
class KernelErrorLate(Layer):
    """A kernel is compiled when it first runs."""

    class Device(Layer.Device):
        def create_kernel(self, source: Any) -> Any:
            try:
                return self.real.create_kernel(source)
            except KernelError:
                return self.layer.wrap("Kernel", object())


@mutant("device.kernels-by-name", breaks="device.kernel-errors", because="the name of a compiled one")
class KernelsByName(Layer):
    """Compiled kernels are kept by name alone."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: dict[tuple[int, str], Any] = {}

    class Device(Layer.Device):
        def create_kernel(self, source: Any) -> Any:
            compiled = self.layer.compiled  # type: ignore[attr-defined]
            key = (id(self.target), source.name)
            if key not in compiled:
                compiled[key] = self.real.create_kernel(source)
            return compiled[key]


@mutant(
    "device.kernel-error-ends-the-device", breaks="device.kernel-errors", because="ForgeError|broken before"
)
class KernelErrorEndsTheDevice(Layer):
    """After a kernel that did not compile the device takes no more."""

    class Device(Layer.Device):
        broken = False

        def create_kernel(self, source: Any) -> Any:
            if self.broken:
                raise ForgeError("a kernel was broken before")
            try:
                return self.real.create_kernel(source)
            except KernelError:
                self.broken = True
                raise


@mutant("device.one-scratch-for-all", breaks="device.threads", because="what one of several threads")
class OneScratchForAll(Layer):
    """Uploads go through one scratch array that no lock guards."""

    class Ring(Layer.Ring):
        scratch: Any = None

        def upload(self, data: Any, *args: Any, **kwargs: Any) -> Any:
            size = args[0].nbytes
            self.scratch = data
            threading.Event().wait(0.002)
            scratch = self.scratch
            return self.real.upload(scratch[:size] if scratch.nbytes >= size else scratch, *args, **kwargs)


@mutant("device.submit-is-not-reentrant", breaks="device.threads", because="got RuntimeError")
class SubmitIsNotReentrant(Layer):
    """Two threads that submit at once trip over each other."""

    class Device(Layer.Device):
        busy = False

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            if self.busy:
                raise RuntimeError("dictionary changed size during iteration")
            self.busy = True
            threading.Event().wait(0.002)
            try:
                return self.real.submit(*args, **kwargs)
            finally:
                self.busy = False


@mutant("device.close-lost-in-the-crowd", breaks="device.threads", because="changed buffer_count")
class CloseLostInTheCrowd(Layer):
    """A buffer closed while another is being closed is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = threading.Lock()
        self.forgotten: list[Any] = []

    class Buffer(Layer.Buffer):
        def close(self) -> None:
            layer: Any = self.layer
            if not layer.closing.acquire(blocking=False):
                layer.forgotten.append(self.target)
                return
            try:
                threading.Event().wait(0.01)
                self.target.close()
            finally:
                layer.closing.release()

        def __exit__(self, *exc_info: object) -> None:
            self.close()
