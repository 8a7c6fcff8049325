"""Computations: their source per language, and the lists they are recorded on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import attrs
import numpy as np

from forge3d_core.protocols.memory import Buffer

Access = Literal["read", "write", "readwrite"]


@attrs.frozen
class Binding:
    """One buffer that a kernel takes, in order.

    ``access`` is what the device orders by, so it must be the truth; ``write`` still keeps what the
    kernel does not overwrite. ``dtype`` is the element type that a host callable sees.
    """

    name: str
    access: Access = attrs.field(
        default="readwrite", validator=attrs.validators.in_(("read", "write", "readwrite"))
    )
    dtype: str = attrs.field(default="u1")

    @dtype.validator
    def _known(self, _attribute: object, value: str) -> None:
        np.dtype(value)


@attrs.frozen
class Param:
    """One scalar that a kernel takes, in order, after the buffers: ``u4``, ``i4`` or ``f4``."""

    name: str
    dtype: str = attrs.field(default="u4", validator=attrs.validators.in_(("u4", "i4", "f4")))


def _bindings(given: Iterable[Binding]) -> tuple[Binding, ...]:
    return tuple(given)


def _params(given: Iterable[Param]) -> tuple[Param, ...]:
    return tuple(given)


@attrs.frozen
class KernelSource:
    """One computation and its source per language.

    ``sources`` maps a language to its source:

    ``"host"``
        a callable ``f(threads, *arrays, *scalars)``: ``threads`` is (x, y, z), the arrays are numpy
        views of the buffers (1-d, of the bindings' dtype; read-only where access is ``read``). It
        runs on a lane's thread and must not call back into the device.
    ``"wgsl"``
        WebGPU's language. Binding *i* is ``@group(0) @binding(i)``, the scalars are one
        ``var<uniform>`` struct at ``@binding(len(bindings))``; the entry point is ``name``.
    ``"cuda"``
        CUDA C++ with ``extern "C" __global__ void name(T*..., scalars...)``.

    ``workgroup`` is the number of threads in a group; a WGSL source must declare the same. It raises
    ``ValueError`` for a name that is not an identifier.
    """

    name: str = attrs.field()
    sources: Mapping[str, str | Callable[..., None]]
    bindings: tuple[Binding, ...] = attrs.field(default=(), converter=_bindings)
    params: tuple[Param, ...] = attrs.field(default=(), converter=_params)
    workgroup: tuple[int, int, int] = (64, 1, 1)

    @name.validator
    def _identifier(self, _attribute: object, value: str) -> None:
        if not value.isidentifier():
            raise ValueError(f"a kernel's name is its entry point, an identifier, not {value!r}")


@runtime_checkable
class Kernel(Protocol):
    """A compiled kernel of one device; valid until the device closes."""

    @property
    def source(self) -> KernelSource: ...

    @property
    def language(self) -> str: ...

    @property
    def native(self) -> Any: ...


@runtime_checkable
class CommandList(Protocol):
    """Work, recorded on any one thread at a time and submitted once.

    Contract
        Recording checks every argument and calls no driver, so a bad call raises at its own line and
        leaves the list as it was. Commands of one list run in the order of recording, each seeing
        the writes of those before. Offsets and sizes are in bytes, and any are allowed: where the API
        wants alignment the backend sees to it. A list may be submitted once; recording on it
        afterwards, or submitting it again, raises :class:`StateError`.
    """

    def __len__(self) -> int: ...

    def copy(
        self,
        source: Buffer,
        target: Buffer,
        nbytes: int | None = None,
        *,
        source_offset: int = 0,
        target_offset: int = 0,
    ) -> CommandList:
        """Copy ``nbytes`` (default: what fits) between buffers; the two must not overlap."""

    def fill(
        self, target: Buffer, value: int = 0, *, offset: int = 0, nbytes: int | None = None
    ) -> CommandList:
        """Set bytes to ``value`` (0 to 255)."""

    def dispatch(
        self,
        kernel: Kernel,
        buffers: Sequence[Buffer],
        params: Sequence[float] = (),
        *,
        threads: int | tuple[int, ...],
    ) -> CommandList:
        """Run ``kernel`` over at least ``threads`` (x, y, z) threads, rounded up to whole workgroups.

        Raises :class:`KernelError` when buffers or params do not match the source.
        """
