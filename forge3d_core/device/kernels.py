"""The kernels of a device: each source is compiled once."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import shown
from forge3d_core.driver import Driver
from forge3d_core.foreign import asking
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.presentation import counted, line, presents
from forge3d_core.protocols import KernelSource, Limits

RANGES = {"u4": range(1 << 32), "i4": range(-(1 << 31), 1 << 31)}
"""What a parameter of whole numbers holds, by its dtype."""


@presents(protocols.Kernel)
@attrs.frozen(eq=False)
class CompiledKernel:
    """See :class:`forge3d_core.protocols.Kernel`."""

    source: KernelSource
    language: str
    native: Any
    owner: object
    writes: tuple[bool, ...]  # for each binding
    ranges: tuple[range | None, ...]  # for each parameter; None for an f4
    max_threads: tuple[int, int, int]

    @classmethod
    def of(
        cls, source: KernelSource, compiled: tuple[str, Any], owner: object, limits: Limits
    ) -> CompiledKernel:
        """Return the kernel with all that recording asks of it."""
        x, y, z = (size * most for size, most in zip(source.workgroup, limits.max_groups, strict=True))
        return cls(
            source,
            *compiled,
            owner,
            tuple(binding.access != "read" for binding in source.bindings),
            tuple(RANGES.get(param.dtype) for param in source.params),
            (x, y, z),
        )

    def __repr__(self) -> str:
        source = self.source
        return line(
            f"kernel {shown(source.name)} in {self.language}",
            counted(len(source.bindings), "buffer"),
            counted(len(source.params), "parameter"),
        )


@attrs.define(eq=False)
class Kernels:
    """What a driver has compiled, by source, until the device forgets it. Thread-safety: any thread."""

    _driver: Driver
    _gate: CallGuard
    _limits: Limits
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
                kernel = CompiledKernel.of(source, (language, native), owner, self._limits)
                self.compiled[key] = kernel
            return kernel

    def forget(self) -> None:
        """Let go of them; a holder of the earlier ``compiled`` keeps what is in it."""
        self.compiled = {}


def _identity(source: KernelSource) -> Hashable:
    """Return what makes two sources the same kernel; a mapping does not hash, its items do.

    A callable that does not hash is itself alone; the kernel keeps it, and so its id is no other's.
    """
    sources = tuple((language, _hashable(text)) for language, text in sorted(source.sources.items()))
    return source.name, sources, source.bindings, source.params, source.workgroup


def _hashable(text: object) -> Hashable:
    try:
        hash(text)
    except Exception:  # a foreign __hash__ may raise anything
        return id(text), "id"
    return text
