"""A queue of textures to upload, under a limit, with a policy for when they are too many."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Any, Literal, Self, get_args

import attrs
import numpy as np
from numpy.typing import NDArray

from forge3d_core.arguments import shown, text
from forge3d_core.deadline import Deadline
from forge3d_core.errors import BudgetExhausted, Closed, ForgeError, TooLarge, UsageError
from forge3d_core.formats import texture_bytes, texture_format
from forge3d_core.presentation import Figures, line
from forge3d_core.protocols import Device, FencePoint, StagingRing, Texture, TextureFormat
from forge3d_core.units import MIB, format_bytes

UploadPolicy = Literal["refuse", "wait", "evict", "accept"]

DEFAULT_MEMORY_MB = 256

_CHANNELS = {1: "r", 2: "rg", 4: "rgba"}
_KINDS = {"u1": "8unorm", "i1": "8snorm", "u2": "16uint", "f2": "16float", "f4": "32float", "u4": "32uint"}


@attrs.frozen
class UploadReport(Figures):
    """What one call of ``process_upload_queue`` did, and what is held after it."""

    processed: int
    failed: int
    evicted: int  # since the call before
    memory_used_mb: float
    memory_utilization: float  # of max_memory_mb; above 1 only under the policy "accept"

    def __repr__(self) -> str:
        return line(
            f"{self.processed} textures uploaded",
            f"{self.failed} failed",
            f"{self.evicted} evicted",
            f"{self.memory_used_mb:.4g} MiB held, {self.memory_utilization:.0%}",
        )


@attrs.define(eq=False)
class _Task:
    texture_id: str
    data: NDArray[Any]
    size: tuple[int, int]
    format: TextureFormat
    nbytes: int
    texture: Texture | None = None
    point: FencePoint | None = None
    dropped: bool = False  # released, or replaced, while it was uploaded


class AsyncTextureUploader:
    """Uploads textures from a queue, of at most ``max_memory_mb`` at once, queued ones included.

    Where a texture would go past the limit, ``policy`` decides: *refuse* it (``queue_texture_upload``
    returns False), *wait* until others are released (up to ``timeout`` seconds), *evict* those that were
    used longest ago, or *accept* it all the same. A texture is used when it is uploaded and when
    :meth:`get` returns it.

    An array that is queued must not change before it is processed. Thread-safety: any thread. Source: async
    operations guide, "AsyncTextureUploader".
    """

    def __init__(
        self,
        device: Device,
        max_memory_mb: float = DEFAULT_MEMORY_MB,
        *,
        policy: UploadPolicy = "refuse",
        timeout: float | None = None,
        ring: StagingRing | None = None,
    ) -> None:
        if policy not in get_args(UploadPolicy):
            raise UsageError(f"policy is one of {', '.join(get_args(UploadPolicy))}, not {shown(policy)}")
        self.device = device
        self.policy = policy
        self.max_memory_bytes = int(max_memory_mb * MIB)
        if self.max_memory_bytes < 1:
            raise UsageError(f"max_memory_mb is a positive number, not {shown(max_memory_mb)}")
        self._timeout = timeout
        self._ring = ring or device.staging_ring()
        self._owns_ring = ring is None
        self._queue: deque[_Task] = deque()
        self._loading: dict[str, _Task] = {}  # taken from the queue by a thread that uploads it now
        self._held: OrderedDict[str, _Task] = OrderedDict()  # uploaded, used longest ago first
        self._used = self._evicted = 0
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self.failures: dict[str, ForgeError] = {}

    def calculate_texture_memory(self, width: int, height: int, channels: int = 4) -> int:
        """Return the bytes of a texture of ``channels`` bytes a texel."""
        return width * height * channels

    def can_upload(self, width: int, height: int, channels: int = 4) -> bool:
        """Whether such a texture fits now, with nothing released or evicted."""
        with self._changed:
            return (
                self._used + self.calculate_texture_memory(width, height, channels) <= self.max_memory_bytes
            )

    def queue_texture_upload(
        self, texture_id: str, texture_data: NDArray[Any], format: TextureFormat | str | None = None
    ) -> bool:
        """Queue an array (rows, columns[, channels]); False where the policy refuses it, or a wait ends.

        ``format`` is by default what the array's dtype and channels say; of a compressed one the rows and
        columns are of blocks. A texture of that name is replaced, unless this one is refused. Raises
        :class:`UsageError` for an array that is no texture, and :class:`TooLarge` for one that alone is more
        than the limit, unless the policy is *accept*.
        """
        name = text("texture_id", texture_id)
        layout = format_of(texture_data) if format is None else texture_format(format)
        if np.ndim(texture_data) not in (2, 3):
            raise UsageError(f"a texture is (rows, columns[, channels]), not {shown(np.shape(texture_data))}")
        (rows, columns), (across, down) = texture_data.shape[:2], layout.block
        size = columns * across, rows * down
        nbytes = texture_bytes(*size, layout)
        if nbytes > self.max_memory_bytes and self.policy != "accept":
            raise TooLarge(
                f"texture {name!r} takes {format_bytes(nbytes)}, more than all of the "
                f"{format_bytes(self.max_memory_bytes)} that this uploader holds at once"
            )
        with self._changed:
            self._check()
            if not self._make_room(nbytes, name):
                return False
            self._forget(name)
            self._used += nbytes
            self._queue.append(_Task(name, texture_data, size, layout, nbytes))
        return True

    def process_upload_queue(self, limit: int | None = None) -> UploadReport:
        """Upload what is queued (at most ``limit`` textures), and return without waiting for the device.

        A texture that cannot be made or staged counts as failed and is dropped; its error is in
        ``failures`` until the next call.
        """
        processed = 0
        self.failures = {}
        while limit is None or processed + len(self.failures) < limit:
            with self._changed:
                self._check()
                if not self._queue:
                    break
                task = self._queue.popleft()
                self._loading[task.texture_id] = task
            try:
                self._upload(task)
                processed += 1
            except ForgeError as error:
                self.failures[task.texture_id] = error
                self._give_up(task)
            except BaseException:
                self._give_up(task)
                raise
        with self._changed:
            evicted, self._evicted = self._evicted, 0
            return UploadReport(
                processed=processed,
                failed=len(self.failures),
                evicted=evicted,
                memory_used_mb=self._used / MIB,
                memory_utilization=self._used / self.max_memory_bytes,
            )

    @property
    def uploaded_textures(self) -> tuple[str, ...]:
        """The names of the textures that are held, used longest ago first."""
        with self._changed:
            return tuple(self._held)

    def get(self, texture_id: str) -> Texture | None:
        """Return a texture that was uploaded, and count it as used; None where there is none."""
        with self._changed:
            task = self._held.get(texture_id)
            if task is None:
                return None
            self._held.move_to_end(texture_id)
            return task.texture

    def point(self, texture_id: str) -> FencePoint | None:
        """Return when the upload of a texture is complete, None where it is not held."""
        with self._changed:
            task = self._held.get(texture_id)
            return None if task is None else task.point

    def release(self, texture_id: str) -> bool:
        """Give a texture up, queued or held; whether there was one. Wakes those who wait for room."""
        with self._changed:
            return self._forget(texture_id)

    def close(self) -> None:
        """Give all textures up, and drop what is queued; idempotent."""
        with self._changed:
            self._closed = True
            for name in [*self._loading, *self._held, *(task.texture_id for task in self._queue)]:
                self._forget(name)
        if self._owns_ring:
            self._ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return line(
            f"texture uploader: {len(self._held)} held, {len(self._queue)} queued",
            f"{format_bytes(self._used)} of {format_bytes(self.max_memory_bytes)}",
            self.policy,
        )

    def _make_room(self, nbytes: int, name: str) -> bool:
        """See to it that ``nbytes`` fit in the place of ``name``, as the policy has it; the lock is held."""
        deadline = Deadline.after(self._timeout)
        while self.policy != "accept":
            replaced = self._held.get(name) or self._queued(name)
            if self._used - (replaced.nbytes if replaced else 0) + nbytes <= self.max_memory_bytes:
                break
            oldest = next((held for held in self._held if held != name), None)
            if self.policy == "evict" and oldest is not None:
                self._forget(oldest)
                self._evicted += 1
            elif self.policy == "wait" and (left := deadline.left()) > 0:
                self._changed.wait(left)
                self._check()
            else:
                return False
        return True

    def _upload(self, task: _Task) -> None:
        task.texture = self._create(task)
        task.point = self._ring.upload(task.data, task.texture)
        with self._changed:
            self._check()
            if task.dropped:
                self._give_up(task)
            else:
                del self._loading[task.texture_id]
                self._held[task.texture_id] = task

    def _create(self, task: _Task) -> Texture:
        """Make the texture; where the device's own budget is full, what may be evicted goes first."""
        while True:
            try:
                return self.device.create_texture(*task.size, task.format, label=task.texture_id)
            except BudgetExhausted:
                with self._changed:
                    if self.policy != "evict" or not self._held:
                        raise
                    self._forget(next(iter(self._held)))
                    self._evicted += 1

    def _give_up(self, task: _Task) -> None:
        if task.texture is not None:
            task.texture.close()
        with self._changed:
            if self._loading.get(task.texture_id) is task:
                del self._loading[task.texture_id]
            self._used -= task.nbytes
            self._changed.notify_all()

    def _forget(self, name: str) -> bool:
        """Drop the texture of that name, wherever it is; whether there was one. The lock is held."""
        if (loading := self._loading.pop(name, None)) is not None:
            loading.dropped = True  # its memory is given back by the thread that uploads it
        task = self._held.pop(name, None)
        if task is None and (task := self._queued(name)) is not None:
            self._queue.remove(task)
        if task is not None:
            self._give_up(task)
        return task is not None or loading is not None

    def _queued(self, name: str) -> _Task | None:
        return next((task for task in self._queue if task.texture_id == name), None)

    def _check(self) -> None:
        if self._closed:
            raise Closed("this texture uploader was closed; make another")


def format_of(data: NDArray[Any]) -> TextureFormat:
    """Return the format that an array (rows, columns[, channels]) is: by its dtype and channels.

    Raises :class:`UsageError` for three channels, which no format has, and for other dtypes.
    """
    shape = np.shape(data)
    channels = shape[2] if len(shape) == 3 else 1
    kind = _KINDS.get(getattr(data, "dtype", np.dtype(object)).str[1:])
    if len(shape) not in (2, 3) or kind is None or channels not in _CHANNELS:
        raise UsageError(
            f"no texture format has texels of {getattr(data, 'dtype', type(data).__name__)} in shape "
            f"{shown(shape)}; give (rows, columns) or (rows, columns, 2 or 4) of {', '.join(_KINDS)}, or say "
            "which with format="
        )
    return texture_format(f"{_CHANNELS[channels]}{kind}")
