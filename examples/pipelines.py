"""Three ways to overlap upload, work and readback: a stream, a coordinator, and stages that repeat.

All three give the answers that one step after the other gives.
"""

import numpy as np

import forge3d_core as forge3d
from forge3d_core.pipeline import (
    AsyncCoordinator,
    GpuPipelineStage,
    LaunchConfig,
    PipelineStageManager,
    TripleBuffer,
)

ITEMS, FRAMES = 4096, 12

SQUARE = forge3d.KernelSource(
    name="square",
    bindings=[forge3d.Binding("x", "read", "u4"), forge3d.Binding("y", "write", "u4")],
    sources={
        "host": lambda threads, x, y: np.multiply(x, x, out=y),
        "wgsl": """
            @group(0) @binding(0) var<storage, read> x: array<u32>;
            @group(0) @binding(1) var<storage, read_write> y: array<u32>;
            @compute @workgroup_size(64)
            fn square(@builtin(global_invocation_id) id: vec3<u32>) {
                if (id.x < arrayLength(&y)) { y[id.x] = x[id.x] * x[id.x]; }
            }""",
        "cuda": """
            extern "C" __global__ void square(const unsigned* x, unsigned* y) {
                unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
                y[i] = x[i] * x[i];
            }""",
    },
)


def frame(number: int) -> np.ndarray:
    return np.full(ITEMS, number, np.uint32)


def streamed(device: forge3d.Device, kernel: forge3d.Kernel) -> list[int]:
    frames = (frame(number) for number in range(FRAMES))
    return [int(result[-1]) for result in forge3d.stream(device, frames, kernel, threads=ITEMS)]


def coordinated(device: forge3d.Device, kernel: forge3d.Kernel) -> list[int]:
    results = [np.zeros(ITEMS, np.uint32) for _ in range(FRAMES)]
    with AsyncCoordinator(device) as coordinator, TripleBuffer(device, 4 * ITEMS) as triple:
        squares = [device.create_buffer(4 * ITEMS) for _ in range(3)]
        for number, result in enumerate(results):
            square = squares[number % 3]
            upload = coordinator.queue_upload(frame(number), triple)
            work = coordinator.queue_compute(kernel, [upload], buffers=[triple, square], threads=ITEMS)
            coordinator.queue_download(square, result, [work])
            done = triple.get_download_buffer()  # nothing is read of it, so it is given up at once
            done.submitted(device.submit(device.command_list()))
            triple.advance()
        coordinator.synchronize_all()
        ends = coordinator.poll()
        assert len(ends) == 3 * FRAMES
        assert all(end.error is None for end in ends)
    return [int(result[-1]) for result in results]


def staged(device: forge3d.Device, kernel: forge3d.Kernel) -> list[int]:
    results: dict[int, int] = {}
    with AsyncCoordinator(device) as coordinator, PipelineStageManager(coordinator) as pipeline:
        source, target = pipeline.add_buffer(4 * ITEMS), pipeline.add_buffer(4 * ITEMS)
        launch = LaunchConfig(grid_dim=(ITEMS // 64, 1, 1), block_dim=(64, 1, 1))

        def keep(number: int, array: np.ndarray) -> None:
            results[number] = int(array[-1])

        pipeline.set_order(
            [
                pipeline.add_stage(GpuPipelineStage.upload("load", frame, source)),
                pipeline.add_stage(GpuPipelineStage("square", kernel, [source], [target], launch)),
                pipeline.add_stage(GpuPipelineStage.download("keep", target, keep, "u4")),
            ]
        )
        for _ in range(FRAMES):
            pipeline.execute_iteration()
        pipeline.synchronize()
        print(f"stages: {pipeline.get_stats().throughput:.0f} iterations a second")
    return [results[number] for number in range(FRAMES)]


def main() -> None:
    with forge3d.open_device() as device:
        print(f"on {device.info.backend}: {device.info.name}")
        kernel = device.create_kernel(SQUARE)
        expected = [number * number for number in range(FRAMES)]
        for way in (streamed, coordinated, staged):
            assert way(device, kernel) == expected, way.__name__
    print("ok")


if __name__ == "__main__":
    main()
