"""One object that makes the systems of a device, as the async pipeline guide has it."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import Any, Self

import attrs
from numpy.typing import NDArray

from forge3d_core.errors import StateError
from forge3d_core.pipeline.coordinator import AsyncCoordinator
from forge3d_core.pipeline.manager import DEFAULT_DEPTH, PipelineStageManager
from forge3d_core.pipeline.triple_buffer import TripleBuffer
from forge3d_core.presentation import Figures, line
from forge3d_core.protocols import Device, Kernel


@attrs.frozen(eq=False)
class StepConfig:
    """One step: the frame to upload, the kernel (one buffer, read and written), and where its bytes go."""

    frame: NDArray[Any]
    kernel: Kernel
    threads: int | tuple[int, ...]
    out: NDArray[Any]
    params: tuple[float, ...] = ()


@attrs.frozen(eq=False)
class StepTelemetry(Figures):
    """What one step did. Times are the calling thread's, in milliseconds."""

    step: int
    upload_ms: float  # until the frame was staged, a wait for a free buffer included
    submit_ms: float  # of the kernel and of the read
    wait_ms: float  # for the step that left
    in_flight: int  # steps whose result has not come
    result: NDArray[Any] | None  # ``out`` of the step that left, None while the buffers fill

    def __repr__(self) -> str:
        times = f"upload {self.upload_ms:.3g} ms, submit {self.submit_ms:.3g} ms, wait {self.wait_ms:.3g} ms"
        return line(f"step {self.step}", times, f"{self.in_flight} in flight")


class ManagedGpuContext:
    """A device with a coordinator, and what is built on it. ``enable_streams=False``: without one.

    Closes what it made, not the device. Thread-safety: as its parts; one thread at a time takes steps.
    Source: async pipeline guide, "ManagedGpuContext".
    """

    def __init__(self, device: Device, enable_streams: bool = True) -> None:
        self._device = device
        self._own = contextlib.ExitStack()
        self._coordinator = self._own.enter_context(AsyncCoordinator(device)) if enable_streams else None
        self._triple: TripleBuffer | None = None
        self._flying: deque[tuple[int, NDArray[Any]]] = deque()
        self._steps = 0

    def device(self) -> Device:
        """Return the device."""
        return self._device

    def async_coordinator(self) -> AsyncCoordinator | None:
        """Return the coordinator, None without streams."""
        return self._coordinator

    async_coordinator_mut = async_coordinator

    def create_triple_buffer(self, nbytes: int | str, *, count: int = DEFAULT_DEPTH) -> TripleBuffer:
        """Return a triple buffer that closes with this context."""
        return self._own.enter_context(TripleBuffer(self._device, nbytes, count=count))

    def create_pipeline_manager(self, *, depth: int = DEFAULT_DEPTH) -> PipelineStageManager:
        """Return a pipeline over this context's coordinator. Raises :class:`StateError` without streams."""
        return PipelineStageManager(self._streams(), depth=depth)

    def triple_buffered_step(self, config: StepConfig) -> StepTelemetry:
        """Upload a frame, run its kernel and start its read; return with the frame of two steps before.

        The first two steps return no result; :meth:`finish_steps` returns those that are left.
        """
        coordinator = self._streams()
        begun = time.perf_counter()
        nbytes = config.frame.nbytes
        triple = self._triple
        if triple is None or triple.nbytes < nbytes:
            if triple is not None:
                triple.close()  # its memory goes back when the steps in flight are done with it
            self._triple = triple = self.create_triple_buffer(nbytes)
        result = None
        if len(self._flying) >= len(triple.slots):
            result = self._land()
        waited = time.perf_counter()
        upload = coordinator.queue_upload(config.frame, triple)
        uploaded = time.perf_counter()
        coordinator.queue_compute(
            config.kernel, [upload], buffers=[triple], params=config.params, threads=config.threads
        )
        self._flying.append((coordinator.queue_download(triple, config.out), config.out))
        self._steps += 1
        return StepTelemetry(
            step=self._steps - 1,
            upload_ms=1e3 * (uploaded - waited),
            submit_ms=1e3 * (time.perf_counter() - uploaded),
            wait_ms=1e3 * (waited - begun),
            in_flight=len(self._flying),
            result=result,
        )

    def finish_steps(self) -> list[NDArray[Any]]:
        """Wait for the steps in flight and return their results, oldest first."""
        return [self._land() for _ in range(len(self._flying))]

    def close(self) -> None:
        """Close what it made; idempotent."""
        self._flying.clear()
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _land(self) -> NDArray[Any]:
        operation, out = self._flying.popleft()
        self._streams().wait(operation)
        return out

    def _streams(self) -> AsyncCoordinator:
        if self._coordinator is None:
            raise StateError("this context has no streams: ManagedGpuContext(device, enable_streams=True)")
        return self._coordinator
