"""The kernels of a device: each source is compiled once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, Self

import attrs

from forge3d_core import protocols
from forge3d_core.arguments import shown
from forge3d_core.driver import Driver, KernelReleasing
from forge3d_core.errors import Closed
from forge3d_core.foreign import asking
from forge3d_core.lifetime.guard import CallGuard
from forge3d_core.memory.allocator import Allocation, Allocator, Owned
from forge3d_core.presentation import counted, line, presents
from forge3d_core.protocols import KernelSource, Limits

RANGES = {"u4": range(1 << 32), "i4": range(-(1 << 31), 1 << 31)}
"""What a parameter of whole numbers holds, by its dtype."""


MAX_KEPT = 64
"""So many kernels stay compiled that the program has dropped, or holds: the last that were asked for."""


@presents(protocols.ClosableKernel)
@attrs.define(eq=False)
class CompiledKernel:
    """See :class:`forge3d_core.protocols.ClosableKernel`.

    To the device it is memory that dispatches read: its allocation knows the work that runs it.
    """

    source: KernelSource
    language: str
    native: Any
    owner: object
    writes: tuple[bool, ...]  # for each binding
    ranges: tuple[range | None, ...]  # for each parameter; None for an f4
    max_threads: tuple[int, int, int]
    allocation: Allocation
    _release: Callable[[Owned], None]
    owned: Owned | None  # None: closed

    @classmethod
    def of(
        cls,
        source: KernelSource,
        language: str,
        owned: Owned,
        device: tuple[object, Limits],
        release: Callable[[Owned], None],
    ) -> CompiledKernel:
        """Return the kernel with all that recording asks of it."""
        owner, limits = device
        x, y, z = (size * most for size, most in zip(source.workgroup, limits.max_groups, strict=True))
        return cls(
            source,
            language,
            owned.allocation.native,
            owner,
            tuple(binding.access != "read" for binding in source.bindings),
            tuple(RANGES.get(param.dtype) for param in source.params),
            (x, y, z),
            owned.allocation,
            release,
            owned,
        )

    @property
    def closed(self) -> bool:
        return self.owned is None

    def check(self) -> None:
        """Raise :class:`Closed` if it was closed."""
        if self.owned is None:
            raise Closed(f"kernel {self.source.name!r} was closed; create_kernel compiles it again")

    def close(self) -> None:
        owned, self.owned = self.owned, None
        if owned is not None:  # this call alone has it now, so that it goes back however the call ends
            self._release(owned)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        source = self.source
        return line(
            f"kernel {shown(source.name)} in {self.language}",
            counted(len(source.bindings), "buffer"),
            counted(len(source.params), "parameter"),
            "closed" if self.closed else "",
        )


@attrs.define(eq=False)
class Kernels:
    """What a driver has compiled, by source, as long as one holds it or it is asked for now and then.

    Thread-safety: any thread. A kernel that was closed, or is gone, is compiled again.
    """

    _driver: Driver
    _gate: CallGuard
    _limits: Limits
    _allocator: Allocator
    _known: weakref.WeakValueDictionary[Hashable, CompiledKernel] = attrs.field(
        factory=weakref.WeakValueDictionary, init=False
    )
    _recent: dict[Hashable, CompiledKernel] = attrs.field(factory=dict, init=False)  # the last asked for last
    _compiling: threading.RLock = attrs.field(factory=threading.RLock, init=False)

    def of(self, source: KernelSource, owner: object) -> CompiledKernel:
        """Return the kernel of ``source``. Raises what the driver's ``compile`` does."""
        with self._compiling:
            key = _identity(source)
            kernel = self._known.get(key)
            if kernel is None or kernel.closed:
                kernel = self._known[key] = self._compile(source, owner)
            self._recent.pop(key, None)
            self._recent[key] = kernel
            for old in list(self._recent)[:-MAX_KEPT]:
                del self._recent[old]
            return kernel

    def forget(self) -> None:
        """Let go of all that the program does not hold."""
        self._recent = {}

    def _compile(self, source: KernelSource, owner: object) -> CompiledKernel:
        with self._gate.passing(), asking(f"the driver, compiling kernel {source.name!r},"):
            language, native = self._driver.compile(source)
        free = self._driver.release_kernel if isinstance(self._driver, KernelReleasing) else _drop
        owned = self._allocator.keep(Allocation(native, None, free=free))
        return CompiledKernel.of(source, language, owned, (owner, self._limits), self._release)

    def _release(self, owned: Owned) -> None:
        """Give a kernel back that has closed, as soon as no work uses it."""
        for key, kernel in self._recent.copy().items():
            if kernel.closed:
                self._recent.pop(key, None)
        self._allocator.release(owned)


def _drop(_native: Any) -> None:
    """Do nothing: what the driver compiled goes with its last reference, or with the device."""


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
