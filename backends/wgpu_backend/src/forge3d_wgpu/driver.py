"""The driver: what the core asks of a device, in wgpu's terms. See :mod:`forge3d_core.driver`."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
from wgpu.backends.wgpu_native import lib

from forge3d_core.driver import AdoptedTexture, Command, Direction, Dispatch, PreparedCommands
from forge3d_core.errors import ForgeError
from forge3d_core.formats import TextureShape
from forge3d_core.protocols import DeviceInfo, Heap, KernelSource, Limits, TextureFormat
from forge3d_core.units import align_up
from forge3d_wgpu.groups import BindGroups
from forge3d_wgpu.guard import Guard, natives
from forge3d_wgpu.kernels import LANGUAGE, CompiledKernel, compile_source
from forge3d_wgpu.lanes import Lanes
from forge3d_wgpu.memory import check_adoptable, create_buffer
from forge3d_wgpu.params import Arenas
from forge3d_wgpu.recording import Recorder, Recording, Translator
from forge3d_wgpu.staging import WORD, HostBlock
from forge3d_wgpu.submission import Submission
from forge3d_wgpu.textures import create_texture, describe_texture, formats_of, is_texture
from forge3d_wgpu.transfers import Transfers

ROW_PITCH_ALIGNMENT = 256  # WebGPU, "bytesPerRow"


def limits_of(native: Any) -> Limits:
    """Return the limits of an adapter or a device."""
    limits = native.limits
    groups = limits["max-compute-workgroups-per-dimension"]
    return Limits(
        max_buffer_size=limits["max-buffer-size"] // WORD * WORD,
        max_texture_size=limits["max-texture-dimension-2d"],
        copy_alignment=WORD,
        row_pitch_alignment=ROW_PITCH_ALIGNMENT,
        max_groups=(groups, groups, groups),
        max_group_threads=limits["max-compute-invocations-per-workgroup"],
        languages=(LANGUAGE,),
        concurrent_lanes=False,
        features=tuple(sorted(native.features)),
        texture_formats=formats_of(native.features),
        max_texture_layers=limits["max-texture-array-layers"],
        max_texture_depth=limits["max-texture-dimension-3d"],
        whole_depth_copies=True,
    )


@attrs.define(eq=False, weakref_slot=True)
class WgpuDriver:
    """Implements ``forge3d_core.driver.Driver`` on a ``wgpu.GPUDevice``.

    ``owned``: whether closing destroys the device. Who adopted it out, or has asked for ``native``, may use
    the queue too: from then on each submission takes its place there before ``submit`` returns.
    """

    _native: Any
    info: DeviceInfo
    owned: bool = True
    _guard: Guard = attrs.field(init=False)
    _stay: object = attrs.field(factory=object, init=False)  # what the guard knows us by
    _lanes: Lanes = attrs.field(init=False)
    _transfers: Transfers = attrs.field(init=False)
    _arenas: Arenas = attrs.field(init=False)
    _groups: BindGroups = attrs.field(init=False)
    _recorder: Recorder = attrs.field(init=False)
    _nothing: Recording = attrs.field(init=False)  # the translation of no commands
    _live: dict[int, Any] = attrs.field(factory=dict, init=False)  # what we made, by id
    _shown: bool = attrs.field(default=False, init=False)  # whether an array may show a block that has gone
    _at_exit: Callable[[], None] = attrs.field(init=False)
    _process: int = attrs.field(factory=os.getpid, init=False)

    def __attrs_post_init__(self) -> None:
        self.info = attrs.evolve(self.info, limits=limits_of(self._native))
        self._guard = Guard.over(self._native, self._stay)
        self._lanes = self._make_lanes()
        self._arenas = Arenas(self._native)
        self._groups = BindGroups(self._native)
        self._transfers = transfers = Transfers(self._native)
        translators: dict[type, Translator] = {**transfers.table, Dispatch: dispatch}
        self._recorder = Recorder(self._groups, self._arenas, translators)
        self._nothing = self._recorder.record(())
        # Weak, so that a device that was dropped rather than closed can be collected.
        self._at_exit = partial(_abandon, weakref.ref(self))
        atexit.register(self._at_exit)

    @property
    def native(self) -> Any:
        """The device, for its owner's own use; waits until the queue has all that was submitted."""
        self._lanes.in_order = True
        self._lanes.flush()
        return self._native

    def _make_lanes(self) -> Lanes:
        one_at_a_time = self.info.kind == "cpu"
        return Lanes(self._native, one_at_a_time, in_order=not self.owned, guard=self._guard)

    @property
    def measures_transfers(self) -> bool:
        """True: what suits them depends on the link, on the host's memory and on the adapter."""
        return True

    def footprint(self, nbytes: int, heap: Heap) -> int:
        return align_up(nbytes, WORD)

    def allocate_buffer(self, nbytes: int) -> Any:
        self._lanes.check()
        return self._keep(self._guard.watch(create_buffer(self._native, nbytes)))

    def allocate_texture(self, width: int, height: int, format: TextureFormat) -> Any:
        return self.allocate_shaped_texture(TextureShape(width, height), format)

    def allocate_shaped_texture(self, shape: TextureShape, format: TextureFormat) -> Any:
        self._lanes.check()
        return self._keep(self._guard.watch(create_texture(self._native, shape, format)))

    def allocate_block(self, nbytes: int, direction: Direction) -> HostBlock:
        self._lanes.check()
        block = self._make_block(nbytes, direction)
        try:
            self._lanes.settle(lambda: block.signal.fired)
        except ForgeError:
            block.release()
            raise
        self._keep(block)
        return block

    def _make_block(self, nbytes: int, direction: Direction) -> HostBlock:
        """Return a block, whose first map may be still to come."""
        block = HostBlock.create(self._native, nbytes, direction, self._lanes.settle)
        if not block.signal.fired:
            try:
                block.map()
            except ForgeError:
                block.release()
                raise
        return block

    def free(self, native: Any) -> bool | None:
        """Release what we made; a block that arrays still show goes back with the last of them.

        (``destroy`` would wait for a lock that a submission may hold.)
        """
        if self._live.pop(id(native), None) is not None:
            self._groups.forget(native)
            _release(native)
        return None

    def adopt(self, native: Any) -> tuple[Any, int]:
        self._lanes.check()
        nbytes = check_adoptable(self._native, native)
        self._groups.mark_foreign(native)
        return self._guard.watch(native), nbytes

    def adopt_texture(self, native: Any, format: TextureFormat | None) -> AdoptedTexture | None:
        if format is None and not is_texture(native):
            return None
        self._lanes.check()
        adopted = describe_texture(self._native, native, format)
        self._groups.mark_foreign(native)
        self._guard.watch(native)
        return adopted

    def compile(self, source: KernelSource) -> tuple[str, CompiledKernel]:
        self._lanes.check()
        return LANGUAGE, self._keep(compile_source(self._native, source))

    def release_kernel(self, native: CompiledKernel) -> None:
        """Release a pipeline, and the bind groups that were made for it."""
        self.free(native)

    def submit(self, lane: str, commands: Sequence[Command], after: Sequence[Submission]) -> Submission:
        """Encode and submit: one encoder, one command buffer. ``after`` holds by the queue's order."""
        self._lanes.check()
        if self._guard.tampered:
            self._guard.check(natives(commands))
        return self._lanes.submit(self._record(commands), commands)

    def _record(self, commands: Sequence[Command]) -> Recording:
        """Return the translation of the commands, which a list that comes many times keeps."""
        if not isinstance(commands, PreparedCommands):
            return self._recorder.record(commands) if commands else self._nothing
        recording: Recording | None = commands.translation
        if recording is None or recording.dropped:
            recording = self._recorder.record(commands, Arenas(self._native))
            self._groups.depend(recording, natives(commands))
            commands.translation = recording
        return recording

    def query(self, token: Submission) -> bool:
        return self._lanes.query(token)

    def wait(self, token: Submission, seconds: float) -> bool:
        return self._lanes.wait(token, seconds)

    def check(self) -> None:
        self._lanes.check_up()

    def retire(self, token: Submission) -> None:
        token.retire()

    def close(self, timeout: float) -> bool:
        """Let work end, then release everything; what arrays still show goes back with the last of them.

        Not yet while the device is busy: to release it would wait for it, however long that takes. All else
        goes at once, as wgpu keeps what its work uses; so little is left of a device that never says that
        its work has ended.
        """
        drained = self._lanes.drain(timeout)
        shown, self._shown = self._shown, True  # who is interrupted in here cannot tell
        while self._live:
            shown |= not _release(self._live.popitem()[1])
        self._groups.clear()
        self._arenas.release()
        self._transfers.release()
        self._shown = shown
        if not drained:
            return False
        with _quiet_loss():  # to destroy it would take its memory from under the arrays
            self._guard.leave(self._stay, destroy=not shown and (self.owned or self._guard.lost))
            if self.owned:
                self._native._release()
        atexit.unregister(self._at_exit)  # last: until then it saves an exit from waiting
        return True

    def _keep(self, native: Any) -> Any:
        self._live[id(native)] = native
        return native

    def abandon(self) -> None:
        """The interpreter exits with the device open: do not let the last reference wait for its work."""
        internal = self._native._internal
        if internal is not None:
            lib.wgpuDeviceAddRef(internal)  # a reference of our own, so that no other is the last
        if self._process == os.getpid():  # a forked child has our locks and none of our threads
            self._lanes.drain(0)


def dispatch(recording: Recording, command: Dispatch) -> None:
    """Record a dispatch over whole buffers."""
    kernel: CompiledKernel = command.kernel.native
    recording.run(kernel, command.buffers, command.params, kernel.grid(command.threads))


def _abandon(driver: weakref.ref[WgpuDriver]) -> None:
    if (alive := driver()) is not None:
        alive.abandon()


def _release(native: Any) -> bool:
    """Give back what we made; whether it is gone."""
    if isinstance(native, HostBlock):
        return native.release()
    release = getattr(native, "_release", None) or native.release
    release()
    return True


@contextmanager
def _quiet_loss() -> Iterator[None]:
    """Keep wgpu-py from reporting the destruction of our own device as an accident."""
    here = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return record.thread != here or not text.startswith(("DEVICE LOST!", "The WGPU device was lost"))

    logger = logging.getLogger("wgpu")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
