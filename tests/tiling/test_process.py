from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import KernelError, UsageError
from forge3d_core.protocols import Binding, Buffer, CommandList, Device, KernelSource, Param
from forge3d_core.tiling import Tile, Tiling, process

KIB, MIB = 2**10, 2**20


def times_three(threads: Any, source: Any, target: Any) -> None:
    target[:] = source * np.uint32(3) + np.uint32(1)


TRIPLE = KernelSource(
    name="triple",
    bindings=(Binding("source", "read", "u4"), Binding("target", "write", "u4")),
    sources={"host": times_three},
)


def box(threads: Any, source: Any, target: Any, width: int, height: int, halo: int) -> None:
    """Sum a square around each item, of a tile of ``width`` x ``height`` with its halo around it."""
    tile = source.reshape(height + 2 * halo, width + 2 * halo)
    total = np.zeros((height, width), np.int64)
    for y in range(2 * halo + 1):
        for x in range(2 * halo + 1):
            total += tile[y : y + height, x : x + width]
    target.reshape(height, width)[:] = total


BOX = KernelSource(
    name="box",
    bindings=(Binding("source", "read", "i2"), Binding("target", "write", "i4")),
    params=(Param("width"), Param("height"), Param("halo")),
    sources={"host": box},
)


def box_params(halo: int) -> Callable[[Tile], tuple[int, int, int]]:
    return lambda tile: (tile.shape[1], tile.shape[0], halo)


def boxed(image: np.ndarray[Any, Any], halo: int, edge: Any) -> np.ndarray[Any, Any]:
    padded = np.pad(image, halo, mode=edge)
    target = np.empty(image.shape, np.int32)
    box(None, padded, target, image.shape[1], image.shape[0], halo)
    return target


def test_an_array_of_any_size_goes_through_a_small_budget(
    open_device: Callable[..., AssembledDevice],
) -> None:
    device = open_device(budget="2 MiB")
    data = np.arange(5_000_011, dtype=np.uint32)
    plan = Tiling(data.shape, data.dtype).fit("2 MiB")
    steps: list[tuple[int, int]] = []
    result = process(
        device,
        data,
        device.create_kernel(TRIPLE),
        plan=plan,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert (result == data * np.uint32(3) + np.uint32(1)).all()
    assert steps == [(n + 1, len(plan)) for n in range(len(plan))]
    assert len(plan) > 50
    device.wait_idle(20)
    assert device.budget.metrics().peak_bytes <= 2 * MIB
    assert device.budget.metrics().device_local_bytes == 0


def test_by_default_it_takes_what_is_left(any_device: Device) -> None:
    data = np.arange(3 * MIB, dtype=np.uint32)
    assert (process(any_device, data, any_device.create_kernel(TRIPLE)) == data * 3 + 1).all()


def test_files_larger_than_memory_are_read_and_written_in_place(
    device: AssembledDevice, tmp_path: Path
) -> None:
    source = np.memmap(tmp_path / "source", np.uint32, "w+", shape=(300_000,))
    source[:] = np.arange(300_000)
    target = np.memmap(tmp_path / "target", np.uint32, "w+", shape=(300_000,))
    plan = Tiling(source.shape, source.dtype).fit("256 KiB")
    assert process(device, source, device.create_kernel(TRIPLE), out=target, plan=plan) is target
    target.flush()
    assert (np.fromfile(tmp_path / "target", np.uint32) == np.asarray(source) * 3 + 1).all()


class Sliced:
    """Has a shape, a dtype and slices, and is no array."""

    def __init__(self, data: np.ndarray[Any, Any]) -> None:
        self.data, self.shape, self.dtype, self.most = data, data.shape, data.dtype, 0

    def __getitem__(self, where: Any) -> Any:
        self.most = max(self.most, self.data[where].nbytes)
        return self.data[where]

    def __setitem__(self, where: Any, value: Any) -> None:
        self.data[where] = value


def test_whatever_slices_will_do(any_device: Device) -> None:
    source, target = Sliced(np.arange(50_000, dtype="u4")), Sliced(np.zeros(50_000, "u4"))
    plan = Tiling(source.shape, source.dtype).fit("64 KiB")
    process(any_device, source, any_device.create_kernel(TRIPLE), out=target, plan=plan)
    assert (target.data == source.data * 3 + 1).all()
    assert source.most <= plan.frame_nbytes


@pytest.mark.parametrize("edge", ["edge", "constant", "reflect"])
@pytest.mark.parametrize("halo", [0, 1, 3])
@pytest.mark.parametrize("tile", [(7, 9), (50, 61), (16, 61), (1, 61), (13, 1)])
def test_neighbours_are_there_at_every_edge(
    device: AssembledDevice, edge: Any, halo: int, tile: tuple[int, int]
) -> None:
    image = np.random.default_rng(1).integers(-999, 999, (50, 61), dtype=np.int16)
    tiling = Tiling(image.shape, image.dtype, result="i4", halo=halo, edge=edge)
    result = process(
        device, image, device.create_kernel(BOX), plan=tiling.tiled(tile), params=box_params(halo)
    )
    assert (result == boxed(image, halo, edge)).all()


def test_an_image_with_channels_and_a_function_that_records(any_device: Device) -> None:
    image = np.random.default_rng(2).integers(0, 256, (257, 130, 4), dtype=np.uint8)
    seen: list[Tile] = []

    def work(commands: CommandList, source: Buffer, target: Buffer, tile: Tile) -> None:
        seen.append(tile)
        commands.copy(source, target)

    plan = Tiling(image.shape, image.dtype).fit("64 KiB")
    assert (process(any_device, image, work, plan=plan) == image).all()
    assert [tile.index for tile in seen] == list(range(len(plan)))


def test_an_error_names_its_tile_and_all_comes_back(any_device: Device) -> None:
    data = np.arange(10_000, dtype=np.uint32)
    plan = Tiling(data.shape, data.dtype).fit("16 KiB")

    def work(commands: CommandList, source: Buffer, target: Buffer, tile: Tile) -> None:
        if tile.index == 5:
            raise KernelError("no")
        commands.copy(source, target)

    with pytest.raises(KernelError) as caught:
        process(any_device, data, work, plan=plan)
    assert caught.value.frame == 5  # type: ignore[attr-defined]
    any_device.wait_idle(20)
    assert any_device.budget.metrics().total_bytes == 0


def test_progress_may_end_it(any_device: Device) -> None:
    data = np.arange(10_000, dtype=np.uint32)
    out = np.zeros_like(data)
    plan = Tiling(data.shape, data.dtype).fit("16 KiB")

    def progress(done: int, total: int) -> None:
        if done == 4:
            raise TimeoutError(f"{done} of {total}")

    with pytest.raises(TimeoutError, match=f"4 of {len(plan)}"):
        process(any_device, data, any_device.create_kernel(TRIPLE), out=out, plan=plan, progress=progress)
    done = 4 * plan.tile[0]
    assert (out[:done] == data[:done] * 3 + 1).all()
    any_device.wait_idle(20)
    assert any_device.budget.metrics().total_bytes == 0


def test_ctrl_c_gives_all_back(device: AssembledDevice) -> None:
    data = np.arange(10_000, dtype=np.uint32)
    plan = Tiling(data.shape, data.dtype).fit("16 KiB")

    def work(commands: CommandList, source: Buffer, target: Buffer, tile: Tile) -> None:
        if tile.index == 3:
            os.kill(os.getpid(), signal.SIGINT)
        commands.copy(source, target)

    with pytest.raises(KeyboardInterrupt):
        process(device, data, work, plan=plan)
    device.wait_idle(20)
    assert device.budget.metrics().device_local_bytes == 0


def test_what_does_not_match_is_refused(device: AssembledDevice) -> None:
    kernel = device.create_kernel(TRIPLE)
    data = np.zeros(100, np.uint32)
    plan = Tiling(data.shape, data.dtype).fit(4096)
    for wrong in (
        lambda: process(device, data[:50], kernel, plan=plan),
        lambda: process(device, data, kernel, plan=plan, out=np.zeros(100, "f4")),
        lambda: process(device, data, lambda *_: None, plan=plan, params=(1,)),
    ):
        with pytest.raises(UsageError):
            wrong()
