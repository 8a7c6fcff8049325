"""The kernels of a device: each source is compiled once."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

import attrs

from forge3d_core.driver import Driver
from forge3d_core.foreign import asking
from forge3d_core.gate import Gate
from forge3d_core.protocols import KernelSource


@attrs.frozen(eq=False)
class CompiledKernel:
    """See :class:`forge3d_core.protocols.Kernel`."""

    source: KernelSource
    language: str
    native: Any
    owner: object = attrs.field(repr=False)


@attrs.define(eq=False)
class Kernels:
    """What a driver has compiled, by source, until the device forgets it. Thread-safety: any thread."""

    _driver: Driver
    _gate: Gate
    compiled: dict[Hashable, CompiledKernel] = attrs.field(factory=dict, init=False)
    _compiling: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    def of(self, source: KernelSource, owner: object) -> CompiledKernel:
        """Return the kernel of ``source``. Raises what the driver's ``compile`` does."""
        with self._compiling:
            key = _identity(source)
            kernel = self.compiled.get(key)
            if kernel is None:
                with self._gate.passing(), asking(f"the driver, compiling kernel {source.name!r},"):
                    language, native = self._driver.compile(source)
                kernel = self.compiled[key] = CompiledKernel(source, language, native, owner)
            return kernel

    def forget(self) -> None:
        """Let go of them; who has ``compiled`` from before keeps what is in it."""
        self.compiled = {}


def _identity(source: KernelSource) -> Hashable:
    """Return what makes two sources the same kernel; a mapping does not hash, its items do."""
    sources = tuple(sorted(source.sources.items(), key=lambda item: item[0]))
    return source.name, sources, source.bindings, source.params, source.workgroup
