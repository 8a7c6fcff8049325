"""What a picture is made of: red first, depths as floats, rows without padding; under asyncio and trio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.device.device import AssembledDevice
from forge3d_core.formats import FORMATS, UNCOPYABLE, texel_dtype
from forge3d_core.pipeline import AsyncReadbackManager, RenderHandle
from forge3d_core.pipeline.pictures import CONVERTED
from forge3d_core.transfer.copying import INLINE_BYTES

trio: Any = pytest.importorskip("trio")

WIDTH, HEIGHT = 33, 5  # rows of no alignment


def texels_of(name: str, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray[Any, Any]:
    format = FORMATS[name]
    dtype, channels = texel_dtype(format)
    random = np.random.default_rng(4)
    shape = (height, width) if channels == 1 else (height, width, channels)
    if dtype.kind == "f":
        return random.random(shape).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype)


def wanted(name: str, texels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if name.startswith("bgra"):
        return texels[..., [2, 1, 0, 3]]
    if name == "depth16unorm":
        return (texels.astype(np.float64) / 65535).astype(np.float32)
    return texels


async def read(device: AssembledDevice, name: str, texels: Any) -> RenderHandle:
    height, width = texels.shape[:2]
    texture = device.create_texture(width, height, name)
    async with device.staging_ring() as ring:
        await ring.upload_async(texels, texture)
    manager = AsyncReadbackManager(device)
    return await manager.readback_texture_async(texture, width, height)


PLAIN = [name for name, format in FORMATS.items() if format.block == (1, 1) and name not in UNCOPYABLE]


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_every_format_that_copies_comes_as_a_picture(
    device: AssembledDevice, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        for name in PLAIN:
            texels = texels_of(name)
            handle = await read(device, name, texels)
            picture = await handle.wait()
            assert picture.dtype == (np.float32 if name == "depth16unorm" else texels.dtype), name
            np.testing.assert_array_equal(picture, wanted(name, texels), name)
            assert picture.flags.c_contiguous, name
            assert await handle is picture
            assert handle.result() is picture
            assert handle.try_get() is picture

    run(main) if run is trio.run else run(main())


def test_depths_span_the_unit_interval(device: AssembledDevice) -> None:
    texels = np.array([[0, 1, 32768, 65535]], np.uint16)
    picture = asyncio.run(read(device, "depth16unorm", texels)).result()
    assert picture[0, 0] == 0.0
    assert picture[0, 3] == 1.0
    assert picture[0, 1] == np.float32(1 / 65535)


@pytest.mark.parametrize("name", CONVERTED)
def test_large_pictures_are_made_once_and_beside_the_loop(
    device: AssembledDevice, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    convert = CONVERTED[name]

    def noted(texels: Any) -> Any:
        threads.append(threading.current_thread())
        return convert(texels)

    monkeypatch.setitem(CONVERTED, name, noted)
    texels = texels_of(name, 512, INLINE_BYTES // 512)

    async def main() -> list[Any]:
        handle = await read(device, name, texels)
        takes: list[Awaitable[Any]] = [handle.wait() for _ in range(8)]
        return await asyncio.gather(*takes)

    pictures = asyncio.run(main())
    assert all(picture is pictures[0] for picture in pictures)
    np.testing.assert_array_equal(pictures[0], wanted(name, texels))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_a_frame_of_a_renderer_is_left_as_it_is(device: AssembledDevice) -> None:
    read = device.readback_pool().read(device.create_buffer(64))
    handle = RenderHandle(read)
    assert handle.result() is read.wait()
