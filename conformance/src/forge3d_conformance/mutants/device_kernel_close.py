"""Devices that give kernels back wrongly."""

from __future__ import annotations

from typing import Any

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant("device.kernel-never-closes", breaks="device.kernel-close", because="does not say so")
class KernelNeverCloses(Layer):
    """Closing a kernel does nothing."""

    class Kernel(Layer.Kernel):
        def close(self) -> None:
            pass

        def __exit__(self, *exc_info: object) -> None:
            pass


@mutant("device.kernel-closed-for-good", breaks="device.kernel-close", because="closed from the start")
class KernelClosedForGood(Layer):
    """A source whose kernel was closed gets that kernel again."""

    class Device(Layer.Device):
        def create_kernel(self, source: Any) -> Any:
            made = self.layer.__dict__.setdefault("made", {})
            if source.name not in made:
                made[source.name] = self.real.create_kernel(source)
            return made[source.name]


@mutant(
    "device.kernel-closed-runs-on",
    breaks="device.kernel-close",
    because="again a list whose kernel.*nothing was raised",
    requires=("reusable_lists",),
)
class KernelClosedRunsOn(Layer):
    """A list that was submitted once asks no more whether its kernels are open: it is as if recorded anew."""

    class Device(Layer.Device):
        def submit(self, commands: Any, **kwargs: Any) -> Any:
            ran = self.layer.__dict__.setdefault("ran", {})
            again = ran.get(id(commands.target))
            if again is None:
                ran[id(commands.target)] = commands.target
                return self.real.submit(commands, **kwargs)
            return self.real.submit(self.real.command_list(), **kwargs)
