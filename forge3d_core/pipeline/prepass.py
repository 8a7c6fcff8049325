"""A depth prepass on the device: what is visible is known before anything is shaded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import at_least
from forge3d_core.errors import StateError, TooLarge
from forge3d_core.pipeline.coordinator import lane_of
from forge3d_core.pipeline.raster import DEPTH_PREPASS, SHADE
from forge3d_core.pipeline.scene import MAX_SIDE, Scene, SceneObject
from forge3d_core.presentation import Figures, line
from forge3d_core.protocols import Buffer, CommandList, Device, ReadbackHandle


@attrs.frozen
class PrepassStats(Figures):
    """Figures of one prepass."""

    objects_processed: int
    pixels_with_geometry: int
    prepass_time: float  # seconds, from the call until the result was there
    depth_complexity: float  # triangles over a pixel that has any, on average
    mean_depth: float  # of the pixels with geometry; 0 without any

    def __repr__(self) -> str:
        return line(
            f"prepass of {self.objects_processed} objects",
            f"{self.pixels_with_geometry} pixels",
            f"depth complexity {self.depth_complexity:.3g}",
        )


@attrs.frozen(eq=False)
class PrepassResult:
    """What a prepass found: (height, width) of depths, 1 where there is nothing, and of ids, -1 there."""

    depth_buffer: NDArray[np.float32] = attrs.field(repr=False)
    object_ids: NDArray[np.int32] = attrs.field(repr=False)
    stats: PrepassStats


@attrs.frozen(eq=False)
class EarlyZResult:
    """What the main pass did behind a prepass, and would have done without."""

    visible_objects: tuple[SceneObject, ...] = attrs.field(repr=False)
    image: NDArray[np.uint8] = attrs.field(repr=False)  # (height, width, 4), the same with and without
    pixels_shaded: int
    pixels_shaded_without: int  # each time a pixel was shaded in the order of the objects
    main_pass_time: float  # seconds
    optimization_ratio: float  # visible objects to all


class PrepassHandle:
    """A prepass on its way; :meth:`result` waits for it."""

    def __init__(self, loaded: _Loaded, begun: float, *reads: ReadbackHandle) -> None:
        self._objects, self._owner, self._begun = loaded.objects, loaded.scene.owner, begun
        self._depth, self._winner, self._layers = reads
        self._result: PrepassResult | None = None

    @property
    def is_complete(self) -> bool:
        """Whether :meth:`result` would return at once."""
        return all(read.is_complete for read in (self._depth, self._winner, self._layers))

    def result(self, timeout: float | None = None) -> PrepassResult:
        """Wait, and return what the prepass found: the same each time."""
        if self._result is None:
            depth, winner, layers = (read.wait(timeout) for read in (self._depth, self._winner, self._layers))
            covered = winner >= 0
            ids = np.where(covered, np.append(self._owner, np.int32(-1))[winner], np.int32(-1))
            count = int(covered.sum())
            stats = PrepassStats(
                objects_processed=len(self._objects),
                pixels_with_geometry=count,
                prepass_time=time.perf_counter() - self._begun,
                depth_complexity=float(layers.sum()) / count if count else 0.0,
                mean_depth=float(depth[covered].mean()) if count else 0.0,
            )
            self._result = PrepassResult(depth, ids.astype(np.int32), stats)
        return self._result


class AsyncComputePrepass:
    """Finds the depth and the object of every pixel on the device, and shades only what is visible.

    ``width`` and ``height`` are up to 4096. Runs on any backend with host, WGSL or CUDA kernels.
    Thread-safety: one thread at a time. Source: async operations guide, "Prepass Operations".
    """

    def __init__(self, width: int, height: int, device: Device) -> None:
        self.width, self.height = at_least(1, "width", width), at_least(1, "height", height)
        if max(self.width, self.height) > MAX_SIDE:
            raise TooLarge(f"a prepass is up to {MAX_SIDE} x {MAX_SIDE} pixels, not {width} x {height}")
        self._device = device
        self._own = contextlib.ExitStack()
        try:
            self._ring = self._own.enter_context(device.staging_ring(lane=lane_of(device, "upload").name))
            self._pool = self._own.enter_context(device.readback_pool(lane=lane_of(device, "download").name))
            self._kernels = device.create_kernel(DEPTH_PREPASS), device.create_kernel(SHADE)
            plane = 4 * self.width * self.height
            names = ("depth", "winner", "layers", "rgba", "shaded")
            self._planes = {
                name: self._own.enter_context(device.create_buffer(plane, label=name)) for name in names
            }
        except BaseException:
            self._own.close()
            raise
        self._lane = lane_of(device, "compute").name
        self._scene: _Loaded | None = None

    def compute_depth_prepass_async(self, scene_objects: Sequence[SceneObject]) -> PrepassHandle:
        """Upload the objects, start the prepass, and return a handle at once."""
        begun = time.perf_counter()
        loaded = self._load(scene_objects)
        self._run(self._depth(loaded))
        reads = (self._read("depth", "f4"), self._read("winner", "i4"), self._read("layers", "u4"))
        return PrepassHandle(loaded, begun, *reads)

    def apply_early_z_optimization(
        self, main_pass_objects: Sequence[SceneObject] | None = None
    ) -> EarlyZResult:
        """Shade ``main_pass_objects`` (default: those of the prepass) with and without what it found.

        Other objects than those of the prepass have one of their own first. Raises :class:`StateError`
        where there are none.
        """
        begun = time.perf_counter()
        loaded = self._scene
        if main_pass_objects is not None:
            loaded = self._load(main_pass_objects)
            self._run(self._depth(loaded))
        if loaded is None:
            raise StateError("no objects: compute_depth_prepass_async comes first, or give main_pass_objects")
        winner = self._read("winner", "i4")
        self._run(self._shade(loaded, early=0))
        without = self._read("shaded", "u4")
        self._run(self._shade(loaded, early=1))
        shaded, image = self._read("shaded", "u4"), self._read("rgba", "u4")
        seen = set(loaded.scene.owner[np.unique(winner.wait()[winner.wait() >= 0])].tolist())
        visible = tuple(each for each in loaded.objects if each.id in seen)
        pixels = image.wait().view(np.uint8).reshape(self.height, self.width, 4)
        return EarlyZResult(
            visible_objects=visible,
            image=pixels,
            pixels_shaded=int(shaded.wait().sum()),
            pixels_shaded_without=int(without.wait().sum()),
            main_pass_time=time.perf_counter() - begun,
            optimization_ratio=len(visible) / len(loaded.objects) if loaded.objects else 0.0,
        )

    def draw(self, objects: Sequence[SceneObject], target: Buffer) -> None:
        """Submit a prepass and the shading behind it, with ``target`` (4 bytes a pixel) for the picture."""
        loaded = self._load(objects)
        commands = self._depth(loaded)
        self._record_shade(commands, loaded, target, early=1)
        self._run(commands)

    def close(self) -> None:
        """Give its memory back when the device is done; idempotent."""
        self._scene = None
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return line(f"depth prepass of {self.width} x {self.height} on {self._device!r}")

    def _load(self, objects: Sequence[SceneObject]) -> _Loaded:
        if self._scene is not None and self._scene.objects == tuple(objects):
            return self._scene
        scene = Scene.of(objects)
        previous, self._scene, room = self._scene, None, max(len(scene), 1)
        if previous is not None and room <= previous.room:
            buffers, room = previous.buffers, previous.room
        else:
            buffers = tuple(
                self._device.create_buffer(4 * words * room, label=name)
                for name, words in (("corners", 6), ("depths", 3), ("colors", 12))
            )
            if previous is not None:
                for buffer in previous.buffers:
                    buffer.close()
            for buffer in buffers:
                self._own.callback(buffer.close)
        for array, buffer in zip((scene.corners, scene.depths, scene.colors), buffers, strict=True):
            self._ring.upload(array, buffer)
        self._scene = loaded = _Loaded(tuple(objects), scene, buffers, room)
        return loaded

    def _depth(self, loaded: _Loaded) -> CommandList:
        corners, depths, _ = loaded.buffers
        planes = [self._planes[name] for name in ("depth", "winner", "layers")]
        return self._device.command_list().dispatch(
            self._kernels[0],
            [corners, depths, *planes],
            [self.width, self.height, len(loaded.scene)],
            threads=(self.width, self.height),
        )

    def _shade(self, loaded: _Loaded, *, early: int) -> CommandList:
        commands = self._device.command_list()
        self._record_shade(commands, loaded, self._planes["rgba"], early=early)
        return commands

    def _record_shade(self, commands: CommandList, loaded: _Loaded, target: Buffer, *, early: int) -> None:
        commands.dispatch(
            self._kernels[1],
            [*loaded.buffers, self._planes["winner"], target, self._planes["shaded"]],
            [self.width, self.height, len(loaded.scene), early],
            threads=(self.width, self.height),
        )

    def _run(self, commands: CommandList) -> None:
        self._device.submit(commands, lane=self._lane)

    def _read(self, plane: str, dtype: str) -> ReadbackHandle:
        return self._pool.read(self._planes[plane], dtype=dtype, shape=(self.height, self.width))


@attrs.frozen(eq=False)
class _Loaded:
    """Objects that are on the device."""

    objects: tuple[SceneObject, ...]
    scene: Scene
    buffers: tuple[Buffer, ...]
    room: int  # triangles that the buffers hold
