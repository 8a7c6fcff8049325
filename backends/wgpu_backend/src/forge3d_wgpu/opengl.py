"""wgpu over OpenGL: one context for the process, and a submission that runs its work before it returns.

All OpenGL devices come from one adapter and share its context. wgpu-hal locks that for each call and ends
the process when a thread waits for the lock for 6 s, as it does behind a long submission. So ``context``
serialises all that touches it: one submission, allocation or poll at a time, in all devices.

    * ``submit`` only notes the commands. The device's feeder encodes and submits them; there they run.
    * While the context is taken ``query`` and ``wait`` ask again, ``free`` and ``close`` say "not yet".
    * Allocating and compiling wait for what the context is taken for: a submission that runs, at worst.

What is done through ``native`` directly is outside of this lock: it is safe while forge3d's work is idle.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import attrs
from wgpu.backends.wgpu_native import lib

from forge3d_core.driver import AdoptedTexture, Command, Direction, Dispatch
from forge3d_core.errors import ForgeError, KernelError, UsageError
from forge3d_core.formats import TextureShape
from forge3d_core.protocols import KernelSource, TextureFormat
from forge3d_wgpu.adapters import opengl_context
from forge3d_wgpu.driver import WgpuDriver, limits_of
from forge3d_wgpu.kernels import CompiledKernel
from forge3d_wgpu.lanes import Lanes
from forge3d_wgpu.native import Bound
from forge3d_wgpu.params import Params
from forge3d_wgpu.recording import Recorder, Recording
from forge3d_wgpu.staging import HostBlock
from forge3d_wgpu.textures import STORAGE_FORMATS, create_texture

WRONG_FORMATS = {
    "r8snorm": "r8sint",
    "rg8snorm": "rg8sint",
    "rgba8snorm": "rgba8sint",
    "rgb9e5ufloat": "rgba16float",
    "stencil8": "r8uint",
    "depth16unorm": "r16uint",
    "depth24plus": "r32float",
    "depth24plus-stencil8": "r32float",
    "depth32float": "r32float",
    "depth32float-stencil8": "r32float",
}
"""OpenGL ES has no rule for reading these back, and wgpu's way loses bits, or there is none, for depths. Each
with what to use instead."""

NOT_RENDERED: frozenset[str] = frozenset()
"""No format: nothing is adopted or lent here, so no render pass draws."""

OPENGL_STORAGE_FORMATS = frozenset(name for name in STORAGE_FORMATS if not name.startswith("rg32"))
"""Source: OpenGL ES 3.1, table 8.27, "formats of image units"."""


@attrs.define(eq=False)
class DeferredClose:
    """Gives a block's buffer back when it is called: by the driver, or where the last array over it goes.

    That may be anywhere, and must not wait for the context: who holds it next gives the buffer back.
    """

    context: threading.Lock
    _buffer: Any  # the native one; None once it was called
    _doomed: ClassVar[deque[Any]] = deque()

    def __call__(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._doomed.append(buffer)
            if not self.context.locked():
                with self.context:
                    self.carry_out()

    @classmethod
    def carry_out(cls) -> None:
        """Give back what has been left; the context is held."""
        while cls._doomed:
            lib.wgpuBufferRelease(cls._doomed.popleft())


@attrs.define(eq=False)
class LateRecording(Recording):
    """Commands that are translated when they are encoded: where they are submitted."""

    _translate: Callable[[Recording], None] = attrs.field(kw_only=True)

    @classmethod
    def of(cls, recorder: Recorder, commands: Sequence[Command]) -> LateRecording:
        kind = KernelError if Dispatch in map(type, commands) else ForgeError

        def translate(recording: Recording) -> None:
            recorder.fill(recording, commands)

        groups = recorder.groups
        params = Params(recorder.arenas, groups.calls)
        late = cls(groups.calls, groups, params, kind, translate=translate)
        for command in commands:
            if (block := getattr(command, "block", None)) is not None:
                late.use(block)
        return late

    def encode(self, device: Any) -> Any:
        self._translate(self)
        return super().encode(device)


@attrs.define(eq=False, weakref_slot=False)
class OpenGlDriver(WgpuDriver):
    """The driver of a device over OpenGL; see the module."""

    context: Any = attrs.field(factory=opengl_context)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        limits = limits_of(self._native)
        kept = tuple(name for name in limits.texture_formats if name not in WRONG_FORMATS)
        self.info = attrs.evolve(self.info, limits=attrs.evolve(limits, texture_formats=kept))

    def _make_lanes(self) -> Lanes:
        return Lanes(self._native, True, guard=self._guard, deferred=True, native=self.context)

    def allocate_shaped_texture(self, shape: TextureShape, format: TextureFormat) -> Any:
        if (instead := WRONG_FORMATS.get(format.name)) is not None:
            raise UsageError(
                f"wgpu over OpenGL does not read texels of {format.name} back as they were; use {instead} "
                "and convert in the kernel, or install a Vulkan driver"
            )
        self._lanes.check()
        with self.context:
            texture = create_texture(self._native, shape, format, OPENGL_STORAGE_FORMATS, NOT_RENDERED)
        return self._keep(self._guard.watch(texture))

    def allocate_buffer(self, nbytes: int) -> Any:
        with self.context:
            return super().allocate_buffer(nbytes)

    def _make_block(self, nbytes: int, direction: Direction) -> HostBlock:
        with self.context:
            block = super()._make_block(nbytes, direction)
        block.native._release = DeferredClose(self.context, block.native._internal)
        return block

    def compile(self, source: KernelSource) -> tuple[str, CompiledKernel]:
        with self.context:
            return super().compile(source)

    def free(self, native: Any) -> bool | None:
        """Release what we made; not yet where that would wait for the context."""
        if self.context.locked():
            return False
        with self.context:
            super().free(native)
            DeferredClose.carry_out()
        return None

    def close(self, timeout: float) -> bool:
        if not self._lanes.drain(timeout) or self.context.locked():
            return False
        with self.context:
            closed = super().close(0)
            DeferredClose.carry_out()
            return closed

    def adopt(self, native: Any) -> tuple[Any, int]:
        raise UsageError("wgpu over OpenGL adopts no memory: its owner's work would not wait for forge3d's")

    def adopt_texture(self, native: Any, format: TextureFormat | None) -> AdoptedTexture | None:
        self.adopt(native)  # which raises
        return None

    def _record(self, commands: Sequence[Command]) -> Recording:
        """Check the commands and leave the rest to the feeder: to translate them may allocate."""
        for command in commands:
            if type(command) is Dispatch:
                kernel: CompiledKernel = command.kernel.native
                kernel.grid(command.threads)
                self._groups.check(kernel, [Bound(memory.native) for memory in command.buffers])
        return LateRecording.of(self._recorder, commands)
