"""The driver of the host machine."""

from __future__ import annotations

import contextlib
import inspect
import os
import platform
from collections.abc import Sequence
from typing import Any, Literal

import attrs
import numpy as np

from forge3d_core.deadline import Deadline
from forge3d_core.driver import AdoptedTexture, Command, Direction
from forge3d_core.errors import ForgeError, KernelError, UsageError
from forge3d_core.formats import FORMATS, TextureShape, block_rows, row_bytes
from forge3d_core.host.chaos import Decision
from forge3d_core.host.execution import Block
from forge3d_core.host.lanes import Hold, Lanes
from forge3d_core.host.machine import HostMachine
from forge3d_core.host.options import HostOptions
from forge3d_core.host.submission import Submission
from forge3d_core.linear_texture import linear_bytes, shape_of
from forge3d_core.protocols import DeviceInfo, Heap, KernelSource, Limits, TextureFormat
from forge3d_core.units import GIB, align_up

NAME = "host"
LANGUAGE = "host"
SCORE = 1
MAX_LAYERS, MAX_DEPTH = 2048, 2048
UNKNOWN_MEMORY = 1024 * GIB


def physical_memory() -> int | None:
    """Return the bytes of memory of this machine, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def describe(options: HostOptions, selector: str = "0") -> DeviceInfo:
    """Return what there is to know of a machine with these options, without making it."""
    memory = physical_memory()
    return DeviceInfo(
        backend=NAME,
        name=f"{platform.machine() or 'host'}, {os.cpu_count() or 1} threads",
        kind="simulator" if options.simulated else "cpu",
        selector=selector,
        driver=f"numpy {np.__version__}",
        score=SCORE,
        memory_bytes=memory,
        limits=Limits(
            max_buffer_size=memory or UNKNOWN_MEMORY,
            copy_alignment=options.align,
            row_pitch_alignment=options.pitch,
            languages=(LANGUAGE,),
            lanes=options.lanes,
            mapped_copies=True,
            texture_formats=tuple(FORMATS),
            max_texture_layers=MAX_LAYERS,
            max_texture_depth=MAX_DEPTH,
        ),
    )


@attrs.define(eq=False)
class HostDriver:
    """A :class:`forge3d_core.driver.Driver` over a machine; ``owned`` says whether ``close`` ends it."""

    machine: HostMachine
    owned: bool = True
    selector: str = "0"
    info: DeviceInfo = attrs.field(init=False)
    _lanes: Lanes = attrs.field(init=False)  # the machine's: what is asked most often is asked directly
    _newest: dict[str, Submission] = attrs.field(init=False, factory=dict)
    _timing: bool = attrs.field(init=False, default=False)
    clock: Literal["host"] = attrs.field(init=False, default="host")

    def __attrs_post_init__(self) -> None:
        self._lanes = self.machine._lanes
        self.info = describe(self.machine.options, self.selector)

    @property
    def native(self) -> HostMachine:
        return self.machine

    def footprint(self, nbytes: int, heap: Heap) -> int:
        return align_up(nbytes, self.machine.options.align) if heap == "device_local" else nbytes

    def allocate_buffer(self, nbytes: int) -> Any:
        return self.machine.zeros(self.footprint(nbytes, "device_local"))

    def allocate_texture(self, width: int, height: int, format: TextureFormat) -> Any:
        return self.machine.zeros((block_rows(height, format), row_bytes(width, format)))

    def allocate_shaped_texture(self, shape: TextureShape, format: TextureFormat) -> Any:
        return self.machine.zeros(linear_bytes(shape, format))

    def allocate_block(self, nbytes: int, direction: Direction) -> Block:
        return Block(self.machine.zeros(nbytes), direction)

    def free(self, native: Any) -> None:
        """Do nothing: numpy gives memory back with the last reference, which the core drops."""

    def adopt(self, native: Any) -> tuple[Any, int]:
        if not isinstance(native, np.ndarray):
            raise UsageError(f"host adopts numpy arrays, not {type(native).__name__}")
        if native.dtype.hasobject or not (native.flags.c_contiguous and native.flags.writeable):
            raise UsageError(
                "host adopts C-contiguous, writable arrays of plain data; "
                f"this one is {native.dtype} with strides {native.strides}, writable: "
                f"{native.flags.writeable}. Adopt np.ascontiguousarray(a) or a copy instead"
            )
        if native.nbytes == 0:
            raise UsageError(f"an array of shape {native.shape} has no bytes to adopt")
        return np.asarray(native).reshape(-1).view(np.uint8), native.nbytes

    def adopt_texture(self, native: Any, format: TextureFormat | None) -> AdoptedTexture | None:
        if format is None:
            return None
        memory, _ = self.adopt(native)
        return AdoptedTexture(memory, shape_of(native.shape, native.itemsize, format), format)

    def compile(self, source: KernelSource) -> tuple[str, Any]:
        function = source.sources.get(LANGUAGE)
        if function is None:
            raise KernelError(
                f"kernel {source.name!r} is written in {', '.join(source.sources) or 'nothing'} and this "
                f"device speaks {LANGUAGE}; add a numpy callable under {LANGUAGE!r}"
            )
        if not callable(function):
            raise KernelError(
                f"the {LANGUAGE} source of kernel {source.name!r} is a {type(function).__name__}; "
                "it must be a callable f(threads, *arrays, *scalars)"
            )
        given = ("threads", *(b.name for b in source.bindings), *(p.name for p in source.params))
        try:
            inspect.signature(function).bind(*given)
        except TypeError as error:
            raise KernelError(
                f"the {LANGUAGE} source of kernel {source.name!r} cannot be called as "
                f"f({', '.join(given)}): {error}"
            ) from None
        except ValueError:
            pass  # a callable in C tells nothing; the call will
        return LANGUAGE, function

    def submit(self, lane: str, commands: Sequence[Command], after: Sequence[Submission]) -> Submission:
        submission = self.machine.submit(lane, commands, after)
        self._newest[lane] = submission
        return submission

    def query(self, token: Submission) -> bool:
        return self._lanes.query(token)

    def wait(self, token: Submission, seconds: float) -> bool:
        return self._lanes.wait(token, seconds)

    def check(self) -> None:
        self.machine.check()

    def retire(self, token: Submission) -> None:
        token.retired = True

    def time_submissions(self, on: bool) -> None:
        if on != self._timing:
            self._timing = on
            self._lanes.timed += 1 if on else -1

    def times(self, token: Submission) -> tuple[float, float] | None:
        return token.times

    def close(self, timeout: float) -> None:
        if self.owned:
            self.machine.close(timeout)
            return
        deadline = Deadline.after(timeout)
        for submission in self._newest.values():
            with contextlib.suppress(ForgeError):  # a wait for it raises the failure, close does not
                self._lanes.wait(submission, deadline.left())

    def hold(self, lane: str) -> Hold:
        return self.machine.hold(lane)

    def lose(self, reason: str) -> None:
        self.machine.lose(reason)

    def fail_allocation(self, nth: int = 1) -> None:
        self.machine.fail_allocation(nth)

    def trace(self) -> tuple[Decision, ...]:
        return self.machine.trace()
