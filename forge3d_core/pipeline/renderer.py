"""A renderer whose pictures come home while the next are drawn."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import at_least
from forge3d_core.concurrency.turns import Turns
from forge3d_core.errors import UsageError
from forge3d_core.pipeline.coordinator import lane_of
from forge3d_core.pipeline.pictures import RenderHandle, conversion
from forge3d_core.pipeline.prepass import AsyncComputePrepass
from forge3d_core.pipeline.scene import SceneObject
from forge3d_core.presentation import Figures, line
from forge3d_core.protocols import (
    AsyncReadbackConfig,
    Buffer,
    CommandList,
    Device,
    ReadbackPool,
    ReadbackStats,
    Texture,
)

Draw = Callable[[CommandList, Buffer, int], object]
"""Records how frame number n gets into a buffer of 4 bytes a pixel, RGBA."""


@runtime_checkable
class Drawing(Protocol):
    """Draws by the API's own means, into textures of rgba8unorm: a ``RenderPipeline`` of wgpu is one."""

    def make_target(self, width: int, height: int) -> Texture:
        """Return a texture, which the renderer closes."""

    def draw(self, target: Texture, frame: int) -> object:
        """Submit what draws frame number n, before what the device is told next."""


RED_GREEN_BLUE = np.array([[[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]], np.float32)


class AsyncRenderer:
    """Draws frames of ``width`` × ``height`` on a device and reads them back, several on their way at once.

    What it draws is a triangle with a red, a green and a blue corner; or ``scene``, objects made of
    triangles; or what ``draw(commands, target, frame)`` records, with a kernel of the program's; or what a
    :class:`Drawing` draws: ``forge3d_wgpu.rendering.RenderPipeline``, with vertex and fragment shaders.
    As many frames are under way as ``config.max_pending_ops`` allows, each in a target of its own, so drawing
    overlaps with readback.

    Thread-safety: one thread, or one loop, at a time renders; handles are of any. Source: async readback
    guide, "AsyncRenderer".
    """

    def __init__(
        self,
        width: int,
        height: int,
        config: AsyncReadbackConfig | None = None,
        *,
        device: Device,
        scene: Sequence[SceneObject] | None = None,
        draw: Draw | Drawing | None = None,
    ) -> None:
        if scene is not None and draw is not None:
            raise UsageError("a renderer draws a scene, or what draw= records: one of the two")
        self.width, self.height = at_least(1, "width", width), at_least(1, "height", height)
        self.config = config or AsyncReadbackConfig()
        self._device = device
        self._own = contextlib.ExitStack()
        self._frames = 0
        self._turns = Turns()
        self._drawing = draw if isinstance(draw, Drawing) else None
        self._draw = draw if self._drawing is None and callable(draw) else None
        if draw is not None and self._drawing is None and self._draw is None:
            raise UsageError(f"draw is a function draw(commands, target, frame), or a Drawing, not {draw!r}")
        self.scene: tuple[SceneObject, ...] = tuple(scene) if scene is not None else (self._triangle(),)
        try:
            enter = self._own.enter_context
            self._pool: ReadbackPool = enter(
                device.readback_pool(
                    attrs.evolve(self.config, buffer_size=max(self.config.buffer_size, self.nbytes)),
                    lane=lane_of(device, "download").name,
                )
            )
            depth = self.config.max_pending_ops if self.config.double_buffered else 1
            self._targets: deque[Any] = deque(enter(self._make_target(number)) for number in range(depth))
            self._prepass = None if draw is not None else enter(AsyncComputePrepass(width, height, device))
        except BaseException:
            self._own.close()
            raise
        self._lane = lane_of(device, "compute").name

    @property
    def device(self) -> Device:
        """What it draws on."""
        return self._device

    @property
    def nbytes(self) -> int:
        """Bytes of a frame."""
        return 4 * self.width * self.height

    async def render_async(self) -> RenderHandle:
        """Draw a frame, start its read, and return its handle; waits where no block is free, not blocking.

        Tasks of one loop take turns, in the order of their calls.
        """
        async with self._turns:  # or a frame would be drawn over one whose read has not begun
            source = self._render()
            return RenderHandle(await self._pool.read_async(source, **self._region(self.height)))

    def render(self) -> RenderHandle:
        """Do what :meth:`render_async` does, blocking while no block is free."""
        return RenderHandle(self._pool.read(self._render(), **self._region(self.height)))

    def render_triangle_rgba(self) -> NDArray[np.uint8]:
        """Draw a frame and wait for the picture, (height, width, 4)."""
        return self.render().result()

    def read_async(self, width: int, height: int) -> Any:
        """Return a coroutine that reads the upper left of the frame drawn last."""
        rows = at_least(1, "height", height)
        if width != self.width or rows > self.height:
            raise UsageError(f"rows of this renderer are {self.width} pixels, up to {self.height} of them")
        newest = self._targets[-1] if self._frames else self._render()
        return self._pool.read_async(newest, **self._region(rows))

    def get_readback_stats(self) -> ReadbackStats:
        """Return the figures of its readback pool."""
        return self._pool.stats()

    def close(self) -> None:
        """Give its memory back; pictures that are complete stay. Idempotent."""
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return line(f"renderer of {self.width} x {self.height} on {self._device!r}", f"{self._frames} drawn")

    def _make_target(self, number: int) -> Any:
        if self._drawing is not None:
            return self._drawing.make_target(self.width, self.height)
        return self._device.create_buffer(self.nbytes, label=f"target {number}")

    def _region(self, rows: int) -> Any:
        """Return what says to a read that it is of the upper rows of a target."""
        if self._drawing is not None:
            return {"size": (self.width, rows)}
        return {"shape": (rows, self.width, 4), "dtype": "u1"}

    def _render(self) -> Any:
        """Submit the next frame and return its target; the device orders it behind the last read of that."""
        target = self._targets[0]
        if self._drawing is not None:
            self._drawing.draw(target, self._frames)
        elif self._draw is not None:
            commands = self._device.command_list(label=f"frame {self._frames}")
            self._draw(commands, target, self._frames)
            self._device.submit(commands, lane=self._lane)
        else:
            assert self._prepass is not None
            self._prepass.draw(self.scene, target)
        self._frames += 1
        self._targets.rotate(-1)
        return target

    def _triangle(self) -> SceneObject:
        width, height = self.width, self.height
        corners = [[width / 2, height / 8], [width / 8, 7 * height / 8], [7 * width / 8, 7 * height / 8]]
        depths = np.full((1, 3, 1), 0.5)
        return SceneObject(0, np.concatenate([np.array([corners]), depths], axis=2), RED_GREEN_BLUE)


class AsyncReadbackManager:
    """Reads textures and a renderer's frames as the async readback guide calls it.

    Thread-safety: as the pool's. Closes its pool.
    """

    def __init__(self, source: Device | AsyncRenderer, config: AsyncReadbackConfig | None = None) -> None:
        self._renderer = source if isinstance(source, AsyncRenderer) else None
        device: Device = source.device if isinstance(source, AsyncRenderer) else source
        self._pool = device.readback_pool(
            config or (self._renderer.config if self._renderer else None),
            lane=lane_of(device, "download").name,
        )

    async def readback_texture_async(self, *what: Any) -> RenderHandle:
        """Start a read of ``texture, width, height``, or of a renderer's frame, ``width, height``.

        What comes has its rows without padding, the channels in the order red, green, blue, alpha, and depths
        as float32; other texels are as the format has them.
        """
        if self._renderer is not None and len(what) == 2:
            return RenderHandle(await self._renderer.read_async(*what))
        if len(what) != 3:
            raise UsageError("readback_texture_async takes a texture, a width and a height")
        texture, width, height = what
        handle = await self._pool.read_async(texture, size=(width, height))
        return RenderHandle(handle, conversion(texture.format))

    def get_stats(self) -> ReadbackStats:
        """Return the figures of the pool."""
        return self._pool.stats()

    def close(self) -> None:
        """Cancel what is pending; idempotent."""
        self._pool.close()


class AsyncReadbackContext:
    """``async with AsyncReadbackContext(renderer) as manager``: a manager that closes with the block."""

    def __init__(self, renderer: AsyncRenderer | Device, config: AsyncReadbackConfig | None = None) -> None:
        self._manager = AsyncReadbackManager(renderer, config)

    async def __aenter__(self) -> AsyncReadbackManager:
        return self._manager

    async def __aexit__(self, *exc_info: object) -> None:
        self._manager.close()


@attrs.frozen
class ReadbackBenchmark(Figures):
    """``speedup`` is of frames a second with readback overlapped, to one frame after the other."""

    num_operations: int
    frame_bytes: int
    sync_ops_per_sec: float  # the baseline: draw, wait for the picture, draw the next
    async_ops_per_sec: float
    speedup: float
    throughput_bytes_per_sec: float  # of the overlapped run

    def __repr__(self) -> str:
        return line(f"{self.speedup:.3g} x", f"{self.async_ops_per_sec:.4g} frames/s overlapped")


def benchmark_readback_performance(renderer: AsyncRenderer, num_operations: int = 100) -> ReadbackBenchmark:
    """Draw and read ``num_operations`` frames one after the other, then overlapped, and compare."""
    count = at_least(1, "num_operations", num_operations)
    renderer.render_triangle_rgba()  # whatever the first one costs more
    begun = time.perf_counter()
    for _ in range(count):
        renderer.render_triangle_rgba()
    middle = time.perf_counter()

    async def overlapped() -> None:
        flying: deque[RenderHandle] = deque()
        for _ in range(count):
            flying.append(await renderer.render_async())
            if len(flying) >= renderer.config.max_pending_ops:
                await flying.popleft()
        for handle in flying:
            await handle

    asyncio.run(overlapped())
    sync, overlap = count / (middle - begun), count / (time.perf_counter() - middle)
    return ReadbackBenchmark(
        num_operations=count,
        frame_bytes=renderer.nbytes,
        sync_ops_per_sec=sync,
        async_ops_per_sec=overlap,
        speedup=overlap / sync,
        throughput_bytes_per_sec=overlap * renderer.nbytes,
    )
