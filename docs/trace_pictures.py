"""Draw the two traces of docs/tracing.md: a pipeline that overlaps, and one that waits in its middle.

python docs/trace_pictures.py docs/tracing    (takes matplotlib: pip install -e '.[demo]')

Each frame takes 2 ms up, 5 ms of work and 2 ms down, on the host backend with its simulated link.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forge3d_core as forge3d

FRAMES, NBYTES, LINK = 12, 2_000_000, "1GB/s"  # 2 ms each way
WORK_SECONDS = 0.005


def _work(_threads: tuple[int, int, int], frame: NDArray[Any], result: NDArray[Any]) -> None:
    until = time.perf_counter() + WORK_SECONDS
    np.multiply(frame, 2, out=result)
    time.sleep(max(0.0, until - time.perf_counter()))


WORK = forge3d.KernelSource(
    "work",
    {"host": _work},
    [forge3d.Binding("frame", "read", "f4"), forge3d.Binding("result", "write", "f4")],
)


RESULTS = np.ones((FRAMES, NBYTES // 4), np.float32)  # touched before, as a program's would be


def overlapped(device: forge3d.Device, kernel: forge3d.Kernel, frames: list[NDArray[Any]]) -> None:
    for result in forge3d.stream(device, frames, kernel, into=RESULTS):
        assert (result[0] % 2, result[-1]) == (0, result[0])


def stalled(device: forge3d.Device, kernel: forge3d.Kernel, frames: list[NDArray[Any]]) -> None:
    source, target = device.create_buffer(NBYTES), device.create_buffer(NBYTES)
    with device.staging_ring() as ring, device.readback_pool() as pool:
        for frame, result in zip(frames, RESULTS, strict=True):
            ring.upload(frame, source)
            device.submit(device.command_list().dispatch(kernel, [source, target], threads=frame.size))
            pool.read(target, dtype=np.float32, out=result).wait()  # the next frame is not begun before


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    frames = [np.full(NBYTES // 4, number, np.float32) for number in range(FRAMES)]
    for run in (overlapped, stalled):
        with forge3d.open_device(f"host:?link={LINK}") as device:
            kernel = device.create_kernel(WORK)
            run(device, kernel, frames)  # once before, so that memory is made and kernels are loaded
            assert isinstance(device, forge3d.TracedDevice)
            with device.trace() as trace:
                run(device, kernel, frames)
            trace.plot(folder / f"{run.__name__}.png")
            print(run.__name__, trace.summary(), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
