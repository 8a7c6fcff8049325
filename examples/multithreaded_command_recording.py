"""Record command lists on many threads at once, and submit them in one order.

Recording calls no driver and needs no lock of yours; a list belongs to one thread at a time. What order
the lists are submitted in is the program's choice, not that of the threads.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import forge3d_core as forge3d

WORKERS, TASKS, ITEMS = 4, 12, 4096

AXPY = forge3d.KernelSource(
    name="axpy",
    bindings=[forge3d.Binding("x", "read", "f4"), forge3d.Binding("y", "readwrite", "f4")],
    params=[forge3d.Param("n"), forge3d.Param("a", "f4")],
    sources={
        "host": lambda threads, x, y, n, a: np.add(y[:n], np.float32(a) * x[:n], out=y[:n]),
        "wgsl": """
            struct Params { n: u32, a: f32 }
            @group(0) @binding(0) var<storage, read> x: array<f32>;
            @group(0) @binding(1) var<storage, read_write> y: array<f32>;
            @group(0) @binding(2) var<uniform> p: Params;
            @compute @workgroup_size(64)
            fn axpy(@builtin(global_invocation_id) id: vec3<u32>) {
                if (id.x < p.n) { y[id.x] += p.a * x[id.x]; }
            }""",
        "cuda": """
            extern "C" __global__ void axpy(const float* x, float* y, unsigned n, float a) {
                unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
                if (i < n) y[i] += a * x[i];
            }""",
    },
)


def main() -> None:
    with forge3d.open_device() as device:
        print(f"on {device.info.backend}: {device.info.name}")
        kernel = device.create_kernel(AXPY)
        x, y = device.create_buffer(4 * ITEMS), device.create_buffer(4 * ITEMS)

        def record(task: int) -> forge3d.CommandList:
            commands = device.command_list(label=f"task {task}")
            for step in range(4):
                commands.dispatch(kernel, [x, y], [ITEMS, task + step / 4], threads=ITEMS)
            return commands

        with device.staging_ring() as ring, device.readback_pool() as pool:
            ring.upload(np.ones(ITEMS, np.float32), x)
            with ThreadPoolExecutor(WORKERS) as workers:
                recorded = list(workers.map(record, range(TASKS)))  # in the order of the tasks
            points = [device.submit(commands) for commands in recorded]
            assert [point.value for point in points] == sorted(point.value for point in points)
            forge3d.wait_all(points, timeout=30)
            total = pool.read(y, dtype="f4").wait()
        expected = sum(task + step / 4 for task in range(TASKS) for step in range(4))
        assert (total == expected).all(), (total[0], expected)
        try:
            device.submit(recorded[0])
        except forge3d.StateError as error:
            print(f"a list is submitted once: {error}")
        print(f"{TASKS} lists of 4 dispatches, recorded by {WORKERS} threads: {total[0]:g} in every item")
    print("ok")


if __name__ == "__main__":
    main()
