"""Devices that leave something behind in the process, or in its children."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import Forked
from forge3d_core.protocols import DeviceOptions


@mutant(
    "device.probe-sets-environment",
    breaks="device.no-side-effects",
    because="changed the process: environment",
)
class ProbeSetsEnvironment(Layer):
    """Probing chooses a device for every library in the process."""

    class Backend(Layer.Backend):
        def probe(self) -> Any:
            os.environ["CUDA_VISIBLE_DEVICES"] = "0"
            return self.target.probe()


@mutant("device.probe-takes-signals", breaks="device.no-side-effects", because="signal handlers")
class ProbeTakesSignals(Layer):
    """Probing installs a handler for Ctrl-C."""

    class Backend(Layer.Backend):
        def probe(self) -> Any:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            return self.target.probe()


@mutant("device.probe-keeps-a-handle", breaks="device.no-side-effects", because="open files from")
class ProbeKeepsAHandle(Layer):
    """Every probe opens the driver and none closes it."""

    class Backend(Layer.Backend):
        def probe(self) -> Any:
            os.open(os.devnull, os.O_RDONLY)
            return self.target.probe()


@mutant("device.probe-silences-warnings", breaks="device.no-side-effects", because="warning filters")
class ProbeSilencesWarnings(Layer):
    """Probing has all warnings ignored."""

    class Backend(Layer.Backend):
        def probe(self) -> Any:
            warnings.simplefilter("ignore")
            return self.target.probe()


@mutant("device.probe-writes-a-file", breaks="device.no-side-effects", because="files of the user's home")
class ProbeWritesAFile(Layer):
    """Probing leaves a file in the user's home."""

    class Backend(Layer.Backend):
        def probe(self) -> Any:
            Path.home().joinpath(".probed").write_text("once", "utf-8")
            return self.target.probe()


@mutant("device.probe-opens", breaks="device.no-side-effects", because="native devices are open")
class ProbeOpens(Layer):
    """Probing opens a device to ask it for its limits, and leaves it open."""

    class Backend(Layer.Backend):
        kept: ClassVar[list[Any]] = []

        def probe(self) -> Any:
            if not self.kept:
                self.kept.append(self.target.open("", DeviceOptions()))
            return self.target.probe()


@mutant("device.probe-allocates", breaks="device.no-side-effects", because="a probe has taken memory")
class ProbeAllocates(Layer):
    """Probing measures the speed of memory, and keeps what it measured with."""

    class Backend(Layer.Backend):
        kept: ClassVar[list[Any]] = []

        def probe(self) -> Any:
            if not self.kept:
                self.kept.append(np.ones(16 << 20, np.uint8))
            return self.target.probe()


@mutant("device.probe-changes-its-mind", breaks="device.no-side-effects", because="probed again it lists")
class ProbeChangesItsMind(Layer):
    """Devices are numbered on from probe to probe."""

    class Backend(Layer.Backend):
        probed = 0

        def probe(self) -> Any:
            self.probed += 1
            return [attrs.evolve(info, selector=str(self.probed)) for info in self.target.probe()]


@mutant("device.open-leaks-a-thread", breaks="device.reopen", because="Python threads from")
class OpenLeaksAThread(Layer):
    """Each open starts a thread that nothing ends."""

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            return self.real.open(*args, **kwargs)


@mutant("device.open-leaks-a-file", breaks="device.reopen", because="open files from")
class OpenLeaksAFile(Layer):
    """Each open keeps the driver's file open."""

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            os.open(os.devnull, os.O_RDONLY)
            return self.real.open(*args, **kwargs)


@mutant("device.close-keeps-memory", breaks="device.reopen", because="MiB of memory behind")
class CloseKeepsMemory(Layer):
    """A part of the memory of a closed device stays with the process."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[bytes] = []

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            self.layer.kept.append(os.urandom(1 << 10) * (1 << 10))  # type: ignore[attr-defined]
            return self.real.open(*args, **kwargs)


@mutant(
    "device.close-keeps-a-buffer",
    breaks="device.reopen",
    because="MiB of (device )?memory behind",
    requires=("memory",),
)
class CloseKeepsABuffer(Layer):
    """The native object of one buffer outlives each device."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    class Device(Layer.Device):
        def create_buffer(self, nbytes: Any, *, label: str = "") -> Any:
            buffer = self.real.create_buffer(nbytes, label=label)
            self.layer.kept.append(buffer.target.native)  # type: ignore[attr-defined]
            return buffer


@mutant("device.open-meets-another", breaks="device.open-threads", because="ended with status 134")
class OpenMeetsAnother(Layer):
    """Two threads that open at once make one native context current, which ends the process."""

    def __init__(self) -> None:
        super().__init__()
        self.opening = threading.Lock()

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            lock: threading.Lock = self.layer.opening  # type: ignore[attr-defined]
            if not lock.acquire(blocking=False):
                os._exit(134)
            try:
                if threading.current_thread() is not threading.main_thread():
                    threading.Event().wait(0.2)  # as long as a driver takes
                return self.real.open(*args, **kwargs)
            finally:
                lock.release()


@mutant("device.close-takes-others-along", breaks="device.open-threads", because="Closed: ")
class CloseTakesOthersAlong(Layer):
    """A device that is closed on one thread closes those that other threads have opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[tuple[int, Any]] = []

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            device = self.real.open(*args, **kwargs)
            self.layer.opened.append((threading.get_ident(), device))  # type: ignore[attr-defined]
            return device

    class Device(Layer.Device):
        def close(self) -> None:
            for thread, device in self.layer.opened:  # type: ignore[attr-defined]
                if thread != threading.get_ident():
                    device.target.close()
            self.real.close()


@mutant("device.fork-hangs", breaks="device.fork", because="it hung and was killed", requires=("fork",))
class ForkHangs(Layer):
    """A forked child waits for a thread that only the parent has."""

    class Ring(Layer.Ring):
        def advance(self, timeout: float | None = None) -> Any:
            try:
                return self.real.advance(timeout)
            except Forked:
                threading.Event().wait()


@mutant("device.fork-unnoticed", breaks="device.fork", because="nothing was raised", requires=("fork",))
class ForkUnnoticed(Layer):
    """A ring in a forked child is just full."""

    class Ring(Layer.Ring):
        def allocate(self, nbytes: int) -> Any:
            try:
                return self.real.allocate(nbytes)
            except Forked:
                return None


@mutant(
    "device.fork-reserves", breaks="device.fork", because="budget.*nothing was raised", requires=("fork",)
)
class ForkReserves(Layer):
    """A forked child takes what its copy of the parent's budget has left."""

    class Budget(Layer.Budget):
        def reserve(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.reserve(*args, **kwargs)
            except Forked:
                return None


@mutant("device.fork-crashes", breaks="device.fork", because="ended with wait status", requires=("fork",))
class ForkCrashes(Layer):
    """A native call in a forked child ends the process."""

    class Device(Layer.Device):
        def create_buffer(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.real.create_buffer(*args, **kwargs)
            except Forked:
                os.kill(os.getpid(), signal.SIGTERM)


@mutant("device.exit-waits", breaks="device.exit", because="the interpreter ended")
class ExitWaits(Layer):
    """A thread of the backend keeps the interpreter from ending."""

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            threading.Thread(target=threading.Event().wait, args=(4,), daemon=False).start()
            return self.real.open(*args, **kwargs)


@mutant("device.exit-with-its-own-status", breaks="device.exit", because="ends with status [01]")
class ExitWithItsOwnStatus(Layer):
    """Tearing down at exit crashes."""

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            atexit.register(os._exit, 134)
            return self.real.open(*args, **kwargs)


@mutant("device.exit-chatters", breaks="device.exit", because="wrote to standard error")
class ExitChatters(Layer):
    """At exit the native library complains about what was left open."""

    class Backend(Layer.Backend):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            atexit.register(print, "device dropped while in use", file=sys.stderr)
            return self.real.open(*args, **kwargs)
