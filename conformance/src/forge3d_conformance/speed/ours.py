"""What is measured: forge3d's operations, through the protocols, with default settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.kernels import INCREMENT
from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_core.protocols import AsyncReadbackConfig, Buffer, Device, KernelSource

LIST_LENGTH = 256
BATCH = 64
IN_FLIGHT = 512
SMALL = 4096


class Ours:
    """See :class:`~forge3d_conformance.speed.contestant.Contestant`; the device stays its caller's."""

    name = "forge3d"

    def __init__(self, device: Device, kernel: KernelSource = INCREMENT) -> None:
        self._device = device
        self._kernel = device.create_kernel(kernel)
        self._makers: dict[str, Callable[[int, ExitStack], Runner]] = {
            "submit": self._submit,
            "submit-list": self._submit_list,
            "submit-empty": self._submit_empty,
            "passed-point": self._passed_point,
            "stage": self._stage,
            "staged-upload": self._staged_upload,
            "upload": self._upload,
            "upload-batch": self._upload_batch,
            "read": self._read,
            "read-into": self._read_into,
            "read-many": self._read_many,
            "lease": self._lease,
            "duplex": self._duplex,
            "texture": self._texture,
        }

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(self._makers)

    def runner(self, operation: str, nbytes: int) -> Runner:
        make = self._makers.get(operation)
        if make is None:
            raise unknown(self.name, operation)
        with ExitStack() as stack:
            runner = make(nbytes, stack)
            kept = stack.pop_all()
        return attrs.evolve(runner, close=kept.close)

    def close(self) -> None:
        """Nothing is left: each runner gives back its own operands."""

    def _buffer(self, nbytes: int, stack: ExitStack) -> Buffer:
        buffer = self._device.create_buffer(nbytes)
        stack.callback(buffer.close)
        return buffer

    def _idle(self) -> None:
        self._device.wait_idle()

    def _submit(self, _nbytes: int, stack: ExitStack) -> Runner:
        device, kernel, buffer = self._device, self._kernel, self._buffer(SMALL, stack)

        def call() -> None:
            device.submit(device.command_list().dispatch(kernel, [buffer], [1, 256], threads=256))

        return Runner(call, self._idle)

    def _submit_list(self, _nbytes: int, stack: ExitStack) -> Runner:
        device, kernel, buffer = self._device, self._kernel, self._buffer(SMALL, stack)

        def call() -> None:
            commands = device.command_list()
            for _ in range(LIST_LENGTH):
                commands.dispatch(kernel, [buffer], [1, 256], threads=256)
            device.submit(commands)

        return Runner(call, self._idle, LIST_LENGTH)

    def _submit_empty(self, _nbytes: int, _stack: ExitStack) -> Runner:
        device = self._device
        return Runner(lambda: device.submit(device.command_list()).wait())

    def _passed_point(self, _nbytes: int, stack: ExitStack) -> Runner:
        point = self._device.submit(self._device.command_list().fill(self._buffer(SMALL, stack)))
        point.wait()
        return Runner(lambda: point.done)

    def _stage(self, nbytes: int, stack: ExitStack) -> Runner:
        """The caller's time for a slice that is full already, of a ring whose blocks have its size."""
        target = self._buffer(nbytes, stack)
        ring = stack.enter_context(self._device.staging_ring(ring_count=3, buffer_size=nbytes))

        def call() -> None:
            ring.reserve(nbytes).commit(target)
            ring.advance()

        return Runner(call, self._idle, at_once=1)

    def _staged_upload(self, nbytes: int, stack: ExitStack) -> Runner:
        """The same to its end: what is in host-visible memory already, on the device."""
        target = self._buffer(nbytes, stack)
        ring = stack.enter_context(self._device.staging_ring(ring_count=3, buffer_size=nbytes))

        def call() -> None:
            ring.reserve(nbytes).commit(target)
            ring.advance().wait()

        return Runner(call)

    def _upload(self, nbytes: int, stack: ExitStack) -> Runner:
        target, data = self._buffer(nbytes, stack), _data(nbytes)
        ring = stack.enter_context(self._device.staging_ring())
        return Runner(lambda: ring.upload(data, target).wait())

    def _upload_batch(self, nbytes: int, stack: ExitStack) -> Runner:
        """Many slices under one ``advance``, each filled by the caller."""
        target, data = self._buffer(nbytes * BATCH, stack), _data(nbytes)
        ring = stack.enter_context(
            self._device.staging_ring(ring_count=3, buffer_size=max(nbytes * BATCH, 1 << 20))
        )

        def call() -> None:
            for place in range(BATCH):
                slot = ring.reserve(nbytes)
                slot.view[:] = data
                slot.commit(target, place * nbytes)
            ring.advance().wait()

        return Runner(call, operations=BATCH)

    def _read(self, nbytes: int, stack: ExitStack) -> Runner:
        source, pool = self._buffer(nbytes, stack), stack.enter_context(self._device.readback_pool())
        return Runner(lambda: pool.read(source).wait())

    def _read_into(self, nbytes: int, stack: ExitStack) -> Runner:
        source, pool = self._buffer(nbytes, stack), stack.enter_context(self._device.readback_pool())
        out = np.zeros(nbytes, np.uint8)
        return Runner(lambda: pool.read(source, out=out).wait())

    def _read_many(self, nbytes: int, stack: ExitStack) -> Runner:
        source = self._buffer(nbytes, stack)
        pool = stack.enter_context(
            self._device.readback_pool(AsyncReadbackConfig(max_pending_ops=IN_FLIGHT, buffer_size=nbytes))
        )

        def call() -> None:
            for handle in [pool.read(source) for _ in range(IN_FLIGHT)]:
                handle.wait()

        return Runner(call, operations=IN_FLIGHT)

    def _lease(self, nbytes: int, stack: ExitStack) -> Runner:
        source = self._buffer(nbytes, stack)
        pool = stack.enter_context(
            self._device.readback_pool(AsyncReadbackConfig(max_pending_ops=2, buffer_size=nbytes))
        )
        return Runner(lambda: pool.read(source).lease().release())

    def _duplex(self, nbytes: int, stack: ExitStack) -> Runner:
        """A staged slice up and a lease down at once; an operation moves ``nbytes`` each way."""
        target, source = self._buffer(nbytes, stack), self._buffer(nbytes, stack)
        ring = stack.enter_context(self._device.staging_ring(ring_count=2, buffer_size=nbytes))
        pool = stack.enter_context(
            self._device.readback_pool(AsyncReadbackConfig(max_pending_ops=2, buffer_size=nbytes))
        )

        def call() -> None:
            ring.reserve(nbytes).commit(target)
            point = ring.advance()
            pool.read(source).lease().release()
            point.wait()

        return Runner(call)

    def _texture(self, nbytes: int, stack: ExitStack) -> Runner:
        """A texture whose rows need padding on every API: 4 × 1001 bytes each."""
        texture = self._device.create_texture(1001, nbytes // 4004)
        stack.callback(texture.close)
        pool = stack.enter_context(self._device.readback_pool())
        return Runner(lambda: pool.read(texture).wait())


def _data(nbytes: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, nbytes, dtype=np.uint8)
