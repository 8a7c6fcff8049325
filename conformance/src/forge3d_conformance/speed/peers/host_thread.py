"""The host's raw API: a thread that is handed work through a queue, which is what a lane of it is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forge3d_conformance.kernels import INCREMENT
from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_conformance.speed.terrain import blank, check, hills
from forge3d_core.demo import HILLSHADE, Light, Tile, bands
from forge3d_core.demo.hillshade import PIXELS_PER_THREAD
from forge3d_core.protocols import Device

Stages = tuple[Callable[[], object], ...]

FRAMES = 12
DEPTH = 3


class Worker:
    """A thread that does what it is handed, in order. ``wait`` returns when it has done all."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self.hand = self._jobs.put
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self) -> None:
        reached = self.mark()
        reached.acquire()

    def mark(self) -> threading.Lock:
        """Return a lock that opens when all that was handed over so far is done."""
        lock = threading.Lock()
        lock.acquire()
        self.hand(lock.release)
        return lock

    def close(self) -> None:
        self.hand(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class HostThread:
    name = "thread"

    def __init__(self) -> None:
        self._worker = Worker()
        self._other = Worker()
        self._third = Worker()

    def runner(self, operation: str, nbytes: int) -> Runner:
        match operation:
            case "launch":
                return self._launch()
            case "hand-copy":
                return self._hand_copy(nbytes)
            case "copy":
                return self._copy(nbytes)
            case "both":
                return self._both(nbytes)
            case "mark":
                return Runner(lambda: self._worker.mark().locked(), self._worker.wait)
            case "frames":
                return self._frames(nbytes)
            case "demo":
                return self._demo(nbytes)
        raise unknown(self.name, operation)

    def close(self) -> None:
        for worker in (self._worker, self._other, self._third):
            worker.close()

    def _launch(self) -> Runner:
        kernel: Any = INCREMENT.sources["host"]
        data, hand = np.zeros(1024, np.uint32), self._worker.hand

        def call() -> None:
            hand(lambda: kernel((256, 1, 1), data, 1, 256))

        return Runner(call, self._worker.wait)

    def _hand_copy(self, nbytes: int) -> Runner:
        """Hand a copy over, and wait for it untimed."""
        source, target = np.full(nbytes, 7, np.uint8), np.zeros(nbytes, np.uint8)
        hand = self._worker.hand
        return Runner(lambda: hand(lambda: np.copyto(target, source)), self._worker.wait, at_once=1)

    def _copy(self, nbytes: int) -> Runner:
        source, target = np.full(nbytes, 7, np.uint8), np.zeros(nbytes, np.uint8)
        hand, wait = self._worker.hand, self._worker.wait

        def call() -> None:
            hand(lambda: np.copyto(target, source))
            wait()

        return Runner(call)

    def _both(self, nbytes: int) -> Runner:
        source, target = np.full(nbytes, 7, np.uint8), np.zeros(nbytes, np.uint8)
        back, home = np.full(nbytes, 7, np.uint8), np.zeros(nbytes, np.uint8)

        def call() -> None:
            self._worker.hand(lambda: np.copyto(target, source))
            self._other.hand(lambda: np.copyto(home, back))
            self._worker.wait()
            self._other.wait()

        return Runner(call)

    def _demo(self, nbytes: int) -> Runner:
        """Three threads in a row: a band is copied, shaded by the host's kernel, and copied home."""
        terrain = hills(nbytes)
        plan, picture = list(bands(terrain)), blank(terrain)
        kernel: Any = HILLSHADE.sources["host"]
        scales = Light().scales(terrain.dx, terrain.dy)
        largest = max(tile.window(terrain).size for tile in plan)
        elevations = [np.zeros(largest, np.float32) for _ in range(DEPTH)]
        shades = [np.zeros(largest, np.uint8) for _ in range(DEPTH)]

        def stages(place: int, tile: Tile) -> Stages:
            window = tile.window(terrain)
            elevation, shade, (rows, pitch) = elevations[place], shades[place], window.shape
            sizes = (tile.width // PIXELS_PER_THREAD, tile.height, pitch, rows, *tile.inset)
            return (
                lambda: np.copyto(elevation[: window.size], window.reshape(-1)),
                lambda: kernel((), elevation, shade, *sizes, *scales),
                lambda: np.copyto(tile.of(picture).reshape(-1), shade[: tile.width * tile.height]),
            )

        def call() -> None:
            self._in_a_row([stages(number % DEPTH, tile) for number, tile in enumerate(plan)])

        call()
        check(plan, terrain, picture)
        return Runner(call)

    def _in_a_row(self, work: list[Stages]) -> None:
        """Do each item's stages on three threads, three items under way at once."""
        coming: deque[threading.Lock] = deque()
        for stages in work:
            if len(coming) == DEPTH:
                coming.popleft().acquire()
            coming.append(self._start(stages))
        for lock in coming:
            lock.acquire()

    def _start(self, stages: Stages) -> threading.Lock:
        up, compute, down = stages
        self._worker.hand(up)
        uploaded = self._worker.mark()
        self._other.hand(uploaded.acquire)
        self._other.hand(compute)
        computed = self._other.mark()
        self._third.hand(computed.acquire)
        self._third.hand(down)
        return self._third.mark()

    def _frames(self, nbytes: int) -> Runner:
        """Three threads in a row: copy, kernel, copy; three frames under way at once."""
        kernel: Any = INCREMENT.sources["host"]
        words = nbytes // 4
        source, target = np.full(nbytes, 7, np.uint8), np.zeros(nbytes, np.uint8)
        data = [np.zeros(words, np.uint32) for _ in range(DEPTH)]

        def stages(frame: NDArray[np.uint32]) -> Stages:
            return (
                lambda: np.copyto(frame.view(np.uint8), source),
                lambda: kernel((words, 1, 1), frame, 1, words),
                lambda: np.copyto(target, frame.view(np.uint8)),
            )

        work = [stages(frame) for frame in data]

        def call() -> None:
            self._in_a_row([work[number % DEPTH] for number in range(FRAMES)])

        return Runner(call, operations=FRAMES)


def make(_device: Device) -> HostThread:
    return HostThread()
