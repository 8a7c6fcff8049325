"""Computations: their source per language, and the lists they are recorded on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, Self, TypeVar, runtime_checkable

import attrs

from forge3d_core import arguments
from forge3d_core.arguments import one_of, shown
from forge3d_core.dtypes import element_dtype
from forge3d_core.errors import UsageError, WrongType
from forge3d_core.presentation import counted, line
from forge3d_core.protocols.memory import Buffer

Access = Literal["read", "write", "readwrite"]

T = TypeVar("T")

EXAMPLE = """{"wgsl": "...", "host": function}"""


def _name(value: str) -> str:
    return arguments.text("name", value)


@attrs.frozen
class Binding:
    """One buffer that a kernel takes, in order.

    ``access`` is what the device orders by, so it must be the truth; ``write`` still keeps what the
    kernel does not overwrite. ``dtype`` is the element type that a host callable sees: anything that
    numpy takes as a dtype, of plain bytes in this machine's order. Raises :class:`UsageError`.
    """

    name: str = attrs.field(converter=_name)
    access: Access = attrs.field(default="readwrite", validator=one_of("read", "write", "readwrite"))
    dtype: str = attrs.field(default="u1", converter=element_dtype)


@attrs.frozen
class Param:
    """One scalar that a kernel takes, in order, after the buffers: ``u4``, ``i4`` or ``f4``."""

    name: str = attrs.field(converter=_name)
    dtype: str = attrs.field(default="u4", validator=one_of("u4", "i4", "f4"))


def _bindings(given: Iterable[Binding]) -> tuple[Binding, ...]:
    return _all("bindings", Binding, given)


def _params(given: Iterable[Param]) -> tuple[Param, ...]:
    return _all("params", Param, given)


def _all(what: str, kind: type[T], given: Iterable[T]) -> tuple[T, ...]:
    items = arguments.sequence(what, given)
    for item in items:
        if not isinstance(item, kind):
            raise WrongType(f"{what} are {kind.__name__} objects, not {shown(item)}")
    return items


def _workgroup(given: int | Iterable[int]) -> tuple[int, int, int]:
    return arguments.threads("workgroup", given)


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
    :class:`UsageError` for a name that is not an identifier, and for a source that is neither text nor
    callable.
    """

    name: str = attrs.field()
    sources: Mapping[str, str | Callable[..., None]] = attrs.field()
    bindings: tuple[Binding, ...] = attrs.field(default=(), converter=_bindings)
    params: tuple[Param, ...] = attrs.field(default=(), converter=_params)
    workgroup: tuple[int, int, int] = attrs.field(default=(64, 1, 1), converter=_workgroup)

    def __repr__(self) -> str:
        return line(
            f"kernel source {shown(self.name)}: {'/'.join(map(str, self.sources)) or 'no language'}",
            counted(len(self.bindings), "binding"),
            counted(len(self.params), "param"),
            f"workgroup {self.workgroup}",
        )

    @name.validator
    def _identifier(self, _attribute: object, value: str) -> None:
        if not isinstance(value, str) or not value.isidentifier():
            raise UsageError(f"a kernel's name is its entry point, an identifier, not {shown(value)}")

    @sources.validator
    def _by_language(self, _attribute: object, value: Mapping[str, Any]) -> None:
        if not isinstance(value, Mapping):
            raise WrongType(f"sources maps a language to its source, {EXAMPLE}, not {shown(value)}")
        for language, source in value.items():
            if not isinstance(language, str):
                raise WrongType(f"sources maps a language to its source, {EXAMPLE}; no {shown(language)}")
            if isinstance(source, (bytes, bytearray)):
                raise WrongType(f"the {language} source is bytes; give text: source.decode()")
            if not isinstance(source, str) and not callable(source):
                raise WrongType(f"the {language} source is text or a callable, not {shown(source)}")


@runtime_checkable
class Kernel(Protocol):
    """A compiled kernel of one device; valid until the device closes."""

    @property
    def source(self) -> KernelSource:
        """What it was made of."""

    @property
    def language(self) -> str:
        """The language that the device took: ``host``, ``wgsl``, ``cuda``."""

    @property
    def native(self) -> Any:
        """The API's own object (a compute pipeline, a function), for interop."""


@runtime_checkable
class ClosableKernel(Kernel, Protocol):
    """A kernel that can be given back before its device closes.

    Kernels of devices that the core assembles are; others need not be. As all that ask for one source get one
    kernel, closing it closes it for all of them; the next ``create_kernel`` compiles it again. One that is
    dropped stays for those who ask for it next, until 64 others came after it.
    """

    @property
    def closed(self) -> bool:
        """Whether it was closed; never blocks."""

    def close(self) -> None:
        """Give the kernel back, once work that runs it has ended; idempotent, and waits for nothing.

        Recording a dispatch of it, and submitting a list that has one, raise :class:`Closed` from now on.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class CommandList(Protocol):
    """Work, recorded on any one thread at a time and submitted once, or many times if it is reusable.

    Contract
        Recording checks every argument and calls no driver, so a bad call raises at its own line and
        leaves the list as it was. Commands of one list run in the order of recording, each seeing
        the writes of those before. Offsets and sizes are in bytes, and any are allowed: where the API
        wants alignment the backend sees to it. A list may be submitted once; recording on it
        afterwards, or submitting it again, raises :class:`StateError`.

        A list of ``device.command_list(reusable=True)`` may be submitted any number of times, on any lane
        and from any thread. Each submission runs the same commands with the same params, in order with what
        shares its memory, and has a point of its own; the backend may run what it made of them the first
        time. Recording on it after a submission raises :class:`StateError`, submitting it once one of its
        buffers, or kernels, was closed :class:`Closed`.
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

        ``params`` become what their dtype holds: a bool counts as 0 or 1, a whole float as an int, and an
        ``f4`` is the nearest there is. Raises :class:`KernelError` when buffers or params do not match the
        source, also for a number that its dtype does not hold, and :class:`UsageError` for wrong threads.
        """
