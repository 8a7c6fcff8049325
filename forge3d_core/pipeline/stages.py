"""The stages of a pipeline: what each reads, what each writes, and over how many threads it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from forge3d_core.arguments import integer, sequence, text, threads
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Kernel

Source = Callable[[int], ArrayLike]
Sink = Callable[[int, NDArray[Any]], object]
Into = Callable[[int], NDArray[Any]]


def _dim(value: int | tuple[int, ...]) -> tuple[int, int, int]:
    return threads("a launch dimension", value)


def _no_shared_memory(value: int) -> int:
    if integer("shared_mem_bytes", value):
        raise UsageError(
            f"shared_mem_bytes is {value}: dynamic shared memory is not portable; declare it in the kernel "
            "(var<workgroup>, __shared__)"
        )
    return 0


@attrs.frozen
class LaunchConfig:
    """Over how many groups of how many threads a kernel runs. Source: async pipeline guide."""

    grid_dim: tuple[int, int, int] = attrs.field(default=(1, 1, 1), converter=_dim)
    block_dim: tuple[int, int, int] = attrs.field(default=(64, 1, 1), converter=_dim)
    shared_mem_bytes: int = attrs.field(default=0, converter=_no_shared_memory)

    @property
    def threads(self) -> tuple[int, int, int]:
        """The threads in each direction."""
        (x, y, z), (across, down, deep) = self.grid_dim, self.block_dim
        return x * across, y * down, z * deep


def _buffers(value: Sequence[int]) -> tuple[int, ...]:
    return tuple(integer("the index of a buffer", each) for each in sequence("a stage's buffers", value))


def _name(value: str) -> str:
    return text("a stage's name", value)


def _params(value: Sequence[float]) -> tuple[float, ...]:
    return tuple(sequence("a stage's params", value))


@attrs.frozen
class GpuPipelineStage:
    """One stage: an upload, a kernel, or a download. Buffers are the indices that ``add_buffer`` returned.

    A kernel's bindings are its ``input_buffers`` and then its ``output_buffers``; a buffer that it reads and
    writes is named among the inputs. What a binding of access ``write`` leaves unwritten has any bytes.
    Raises :class:`UsageError` for a stage that is none of the three.
    """

    name: str = attrs.field(converter=_name)
    kernel: Kernel | None = None
    input_buffers: tuple[int, ...] = attrs.field(default=(), converter=_buffers)
    output_buffers: tuple[int, ...] = attrs.field(default=(), converter=_buffers)
    config: LaunchConfig = attrs.field(factory=LaunchConfig)
    params: tuple[float, ...] = attrs.field(default=(), converter=_params)
    source: Source | None = None  # of an upload: called with the number of the iteration
    sink: Sink | None = None  # of a download: called with that number and an array of its own
    dtype: np.dtype[Any] = attrs.field(default="u1", converter=np.dtype)  # of a download
    into: Into | None = None  # of a download: called with that number for the array that its bytes go to

    def __attrs_post_init__(self) -> None:
        kinds = [kind for kind in (self.kernel, self.source, self.sink) if kind is not None]
        if len(kinds) != 1:
            raise UsageError(f"stage {self.name!r} is a kernel, a source or a sink, one of the three")
        if self.into is not None and self.sink is None:
            raise UsageError(f"stage {self.name!r} has into=, which is for a download")
        if self.kernel is not None:
            bound, wanted = (
                len(self.input_buffers) + len(self.output_buffers),
                len(self.kernel.source.bindings),
            )
            if bound != wanted:
                raise UsageError(
                    f"stage {self.name!r} names {bound} buffer(s), inputs first; its kernel binds {wanted}"
                )
        elif (len(self.input_buffers), len(self.output_buffers)) != ((0, 1) if self.source else (1, 0)):
            raise UsageError(
                f"stage {self.name!r} "
                + ("uploads to one output buffer" if self.source else "downloads one input buffer")
                + f", and names {len(self.input_buffers)} and {len(self.output_buffers)}"
            )

    @classmethod
    def upload(cls, name: str, source: Source, buffer: int) -> GpuPipelineStage:
        """Return a stage that fills ``buffer`` with what ``source(iteration)`` returns."""
        return cls(name, output_buffers=(buffer,), source=source)

    @classmethod
    def download(
        cls, name: str, buffer: int, sink: Sink, dtype: Any = "u1", into: Into | None = None
    ) -> GpuPipelineStage:
        """Return a stage that calls ``sink(iteration, array)`` with the bytes of ``buffer``, in order.

        The array is the sink's to keep, or what ``into(iteration)`` returned, which is to be as large as the
        buffer; one of ``device.host_array`` takes no copy on its way.
        """
        return cls(name, input_buffers=(buffer,), sink=sink, dtype=dtype, into=into)

    @property
    def bound(self) -> tuple[int, ...]:
        """The buffers in the order of the bindings."""
        return self.input_buffers + self.output_buffers

    def overwrites(self, buffer: int) -> bool:
        """Whether the stage writes ``buffer`` without looking at what is in it."""
        if self.kernel is None:
            return buffer in self.output_buffers
        access = [
            binding.access
            for binding, bound in zip(self.kernel.source.bindings, self.bound, strict=True)
            if bound == buffer
        ]
        return all(each == "write" for each in access) and bool(access)

    def touches(self, buffer: int) -> bool:
        return buffer in self.bound


def carried(stages: Sequence[GpuPipelineStage], buffer: int) -> bool:
    """Whether an iteration of ``stages`` needs what the one before has left in ``buffer``.

    If so the buffer is one; if not each iteration may have another, and so they overlap.
    """
    first = next((stage for stage in stages if stage.touches(buffer)), None)
    return first is None or not first.overwrites(buffer)
