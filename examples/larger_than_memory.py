"""An image and an array that are larger than the memory there is, tile by tile, with quality by what is left.

``--full`` takes an 8K texture and a 4 GiB array, both through 64 MiB; the array lies in files of the folder
``--folder`` (by default a temporary one), so it need not fit into memory either.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import forge3d_core as forge3d
from forge3d_core.tiling import Tiling, available_bytes, choose_quality, process

MIB, GIB = 2**20, 2**30


def mix_host(_threads: Any, source: Any, target: Any, _count: int) -> None:
    target[:] = source * np.uint32(2654435761) ^ (source >> np.uint32(15))


MIX = forge3d.KernelSource(
    name="mix",
    bindings=(forge3d.Binding("source", "read", "u4"), forge3d.Binding("target", "write", "u4")),
    sources={
        "host": mix_host,
        "wgsl": """
            @group(0) @binding(0) var<storage, read> source: array<u32>;
            @group(0) @binding(1) var<storage, read_write> target_: array<u32>;
            @group(0) @binding(2) var<uniform> count: u32;
            @compute @workgroup_size(64) fn mix(@builtin(global_invocation_id) id: vec3<u32>) {
                if (id.x < count) {
                    target_[id.x] = (source[id.x] * 2654435761u) ^ (source[id.x] >> 15u);
                }
            }""",
        "cuda": """
            extern "C" __global__ void mix(const unsigned* source, unsigned* target, unsigned count) {
                unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
                if (i < count) target[i] = (source[i] * 2654435761u) ^ (source[i] >> 15);
            }""",
    },
    params=(forge3d.Param("count"),),
)


def mean_host(_threads: Any, source: Any, target: Any, width: int, height: int) -> None:
    texels = source.view(np.uint8).reshape(height + 2, width + 2, 4)
    total = np.zeros((height, width, 4), np.uint16)
    for y in range(3):
        for x in range(3):
            total += texels[y : y + height, x : x + width]
    target.view(np.uint8).reshape(height, width, 4)[:] = total // 9


MEAN = forge3d.KernelSource(
    name="mean",
    bindings=(forge3d.Binding("source", "read", "u4"), forge3d.Binding("target", "write", "u4")),
    params=(forge3d.Param("width"), forge3d.Param("height")),
    workgroup=(8, 8, 1),
    sources={
        "host": mean_host,
        "wgsl": """
            struct Size { width: u32, height: u32 }
            @group(0) @binding(0) var<storage, read> source: array<u32>;
            @group(0) @binding(1) var<storage, read_write> target_: array<u32>;
            @group(0) @binding(2) var<uniform> size: Size;
            @compute @workgroup_size(8, 8) fn mean(@builtin(global_invocation_id) id: vec3<u32>) {
                if (id.x >= size.width || id.y >= size.height) { return; }
                var total = vec4<u32>(0u);
                for (var i = 0u; i < 9u; i++) {
                    let texel = source[(id.y + i / 3u) * (size.width + 2u) + id.x + i % 3u];
                    total += vec4<u32>(texel, texel >> 8u, texel >> 16u, texel >> 24u) & vec4<u32>(255u);
                }
                let m = total / 9u;
                target_[id.y * size.width + id.x] = m.x | (m.y << 8u) | (m.z << 16u) | (m.w << 24u);
            }""",
        "cuda": """
            extern "C" __global__ void mean(const unsigned* source, unsigned* target,
                                            unsigned width, unsigned height) {
                unsigned x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
                if (x >= width || y >= height) return;
                unsigned total[4] = {0, 0, 0, 0}, mean = 0;
                for (unsigned i = 0; i < 9; ++i) {
                    unsigned texel = source[(size_t)(y + i / 3) * (width + 2) + x + i % 3];
                    for (unsigned c = 0; c < 4; ++c) total[c] += (texel >> (8 * c)) & 255;
                }
                for (unsigned c = 0; c < 4; ++c) mean |= (total[c] / 9) << (8 * c);
                target[(size_t)y * width + x] = mean;
            }""",
    },
)


def told(what: str, work: Callable[[], Any], device: forge3d.Device, nbytes: int) -> None:
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    device.wait_idle()
    peak = device.budget.metrics().peak_bytes / MIB
    print(f"{what}: {nbytes / MIB:.0f} MiB in {seconds:.2f} s, peak {peak:.1f} MiB of device and host memory")


def image(device: forge3d.Device, side: int, budget: int) -> None:
    """Blur a texture with its neighbours; a band at a time is compared with numpy."""
    texels = np.random.default_rng(7).integers(0, 2**32, (side, side), dtype=np.uint32)
    plan = Tiling(texels.shape, texels.dtype, halo=1).fit(budget, most=device.limits.max_buffer_size)
    result = np.empty_like(texels)

    def run() -> None:
        process(
            device,
            texels,
            device.create_kernel(MEAN),
            out=result,
            plan=plan,
            params=lambda tile: (tile.shape[1], tile.shape[0]),
            threads=(plan.tile[1], plan.tile[0]),
        )

    told(f"texture {side} x {side} in {len(plan)} tiles", run, device, texels.nbytes)
    for top in range(0, side, 512):
        height = min(512, side - top)
        rows = np.clip(np.arange(top - 1, top + height + 1), 0, side - 1)
        band = np.ascontiguousarray(np.pad(texels[rows], ((0, 0), (1, 1)), mode="edge"))
        wanted = np.empty((height, side), np.uint32)
        mean_host(None, band, wanted, side, height)
        assert (result[top : top + height] == wanted).all()


def array(device: forge3d.Device, nbytes: int, budget: int, folder: Path) -> None:
    """Mix an array that lies in a file into another file, and compare both with numpy."""
    count = nbytes // 4
    source = np.memmap(folder / "source", np.uint32, "w+", shape=(count,))
    target = np.memmap(folder / "target", np.uint32, "w+", shape=(count,))
    parts = range(0, count, 4 * MIB)
    for first in parts:
        last = min(first + 4 * MIB, count)
        source[first:last] = np.arange(first, last, dtype=np.uint32)
    plan = Tiling(source.shape, source.dtype).fit(budget, most=device.limits.max_buffer_size)
    kernel = device.create_kernel(MIX)
    marks: list[int] = []

    def progress(done: int, total: int) -> None:
        if done * 4 // total > len(marks):
            marks.append(done)
            print(f"  {done} of {total} tiles")

    told(
        f"array in {len(plan)} tiles",
        lambda: process(device, source, kernel, out=target, plan=plan, params=plan.tile, progress=progress),
        device,
        nbytes,
    )
    for first in parts:
        last = min(first + 4 * MIB, count)
        numbers = np.arange(first, last, dtype=np.uint32)
        assert (target[first:last] == numbers * np.uint32(2654435761) ^ (numbers >> np.uint32(15))).all()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--full", action="store_true")
    arguments.add_argument("--folder", type=Path)
    given = arguments.parse_args()
    budget, side, nbytes = (64 * MIB, 8192, 4 * GIB) if given.full else (4 * MIB, 1024, 16 * MIB)
    with forge3d.open_device(budget=budget) as device:
        print(f"on {device.info.backend}: {device.info.name}")

        # The guide's adaptive quality: the best that fits what is left.
        left = available_bytes(device)
        chosen = choose_quality((8192, 4096, 1024, 512, 256), lambda side: 4 * side * side, left)
        print(f"{left / MIB:.0f} MiB left: a texture of {chosen} x {chosen} would fit whole")

        image(device, side, budget)
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            array(device, nbytes, budget, Path(folder))
        assert device.budget.metrics().peak_bytes <= budget
        assert device.budget.metrics().device_local_bytes == 0
    print("ok")


if __name__ == "__main__":
    main()
