"""A queue of textures under a limit, by each policy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forge3d_core.device.device import AssembledDevice
from forge3d_core.errors import BudgetError, Closed, TooLarge, UsageError
from forge3d_core.pipeline.textures import AsyncTextureUploader, format_of

KIB = 1024


def picture(value: int, side: int = 16) -> NDArray[np.uint8]:
    return np.full((side, side, 4), value, np.uint8)  # 1 KiB


def test_what_is_queued_is_uploaded(device: AssembledDevice) -> None:
    with AsyncTextureUploader(device, 1) as uploader, device.readback_pool() as pool:
        assert uploader.max_memory_bytes == 1024 * KIB
        assert uploader.can_upload(512, 512)
        for number in range(5):
            assert uploader.queue_texture_upload(f"t{number}", picture(number))
        report = uploader.process_upload_queue(limit=2)
        assert (report.processed, report.failed) == (2, 0)
        report = uploader.process_upload_queue()
        assert (report.processed, report.memory_used_mb, report.memory_utilization) == (3, 5 / 1024, 5 / 1024)
        assert uploader.uploaded_textures == ("t0", "t1", "t2", "t3", "t4")
        for number in range(5):
            texture, point = uploader.get(f"t{number}"), uploader.point(f"t{number}")
            assert texture is not None
            assert point is not None
            assert (pool.read(texture).wait() == number).all()
            assert point.done
        assert uploader.get("none") is uploader.point("none") is None
    device.wait_idle()
    assert device.budget.metrics().texture_bytes == 0


def test_refuse(device: AssembledDevice) -> None:
    with AsyncTextureUploader(device, 3 / 1024) as uploader:
        assert [uploader.queue_texture_upload(f"t{n}", picture(n)) for n in range(5)] == [True] * 3 + [
            False
        ] * 2
        assert not uploader.can_upload(1, 1)
        assert uploader.release("t1")
        assert not uploader.release("t1")
        assert uploader.queue_texture_upload("t4", picture(4))
        uploader.process_upload_queue()
        assert uploader.uploaded_textures == ("t0", "t2", "t4")


def test_evict_what_was_used_longest_ago(device: AssembledDevice) -> None:
    with AsyncTextureUploader(device, 3 / 1024, policy="evict") as uploader:
        for number in range(3):
            uploader.queue_texture_upload(f"t{number}", picture(number))
        uploader.process_upload_queue()
        uploader.get("t0")
        assert uploader.queue_texture_upload("t3", picture(3))
        report = uploader.process_upload_queue()
        assert report.evicted == 1
        assert uploader.uploaded_textures == ("t2", "t0", "t3")


def test_accept(device: AssembledDevice) -> None:
    with AsyncTextureUploader(device, 1 / 1024, policy="accept") as uploader:
        assert uploader.queue_texture_upload("small", picture(1))
        assert uploader.queue_texture_upload("large", picture(1, 64))
        assert uploader.process_upload_queue().memory_utilization == 17


def test_wait(device: AssembledDevice, background: Callable[..., Future[Any]], patience: float) -> None:
    with AsyncTextureUploader(device, 1 / 1024, policy="wait", timeout=0.01) as uploader:
        uploader.queue_texture_upload("t0", picture(0))
        assert not uploader.queue_texture_upload("t1", picture(1))
    with AsyncTextureUploader(device, 1 / 1024, policy="wait") as uploader:
        uploader.queue_texture_upload("t0", picture(0))
        waiting = background(uploader.queue_texture_upload, "t1", picture(1))
        assert uploader.release("t0")
        assert waiting.result(patience)


def test_a_texture_that_cannot_be_made_is_one_failure(open_device: Callable[..., AssembledDevice]) -> None:
    device = open_device("?oom_at=5")  # the ring's three blocks, a texture, and then the one that fails
    with AsyncTextureUploader(device, 1) as uploader:
        for number in range(3):
            uploader.queue_texture_upload(f"t{number}", picture(number))
        report = uploader.process_upload_queue()
        assert (report.processed, report.failed) == (2, 1)
        assert isinstance(uploader.failures["t1"], BudgetError)
        assert uploader.uploaded_textures == ("t0", "t2")
        assert report.memory_used_mb == 2 / 1024


def test_one_of_the_same_name_is_replaced(device: AssembledDevice) -> None:
    with AsyncTextureUploader(device, 1) as uploader, device.readback_pool() as pool:
        for number in range(3):
            uploader.queue_texture_upload("t", picture(number))
        assert uploader.process_upload_queue().processed == 1
        uploader.queue_texture_upload("t", picture(7))
        assert uploader.process_upload_queue().memory_used_mb == 1 / 1024
        texture = uploader.get("t")
        assert texture is not None
        assert (pool.read(texture).wait() == 7).all()


@pytest.mark.parametrize("policy", ["refuse", "evict"])
def test_one_that_is_refused_replaces_nothing(device: AssembledDevice, policy: Any) -> None:
    with AsyncTextureUploader(device, 3 / 1024, policy=policy) as uploader:
        uploader.queue_texture_upload("held", picture(1))
        uploader.process_upload_queue()
        uploader.queue_texture_upload("queued", picture(2))
        assert uploader.queue_texture_upload("held", picture(3, 22))  # in the place of the first
        assert not uploader.queue_texture_upload("queued", picture(4, 23))
        assert uploader.process_upload_queue().processed == 2
        assert set(uploader.uploaded_textures) == {"held", "queued"}


def test_one_that_is_released_or_replaced_while_it_is_uploaded(
    device: AssembledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    with device.staging_ring() as ring, AsyncTextureUploader(device, 1, ring=ring) as uploader:
        real, seen = ring.upload, []

        def upload(data: Any, target: Any) -> Any:
            seen.append(int(data[0, 0, 0]))
            if seen == [1]:
                assert uploader.release("t")
                assert not uploader.release("t")
            elif seen == [1, 2]:
                assert uploader.queue_texture_upload("t", picture(3))
            return real(data, target)

        monkeypatch.setattr(type(ring), "upload", lambda _self, data, target: upload(data, target))
        uploader.queue_texture_upload("t", picture(1))
        assert uploader.process_upload_queue().memory_used_mb == 0
        assert uploader.get("t") is None
        uploader.queue_texture_upload("t", picture(2))
        report = uploader.process_upload_queue()
        assert (seen, report.processed, report.memory_used_mb) == ([1, 2, 3], 2, 1 / 1024)
    device.wait_idle()
    assert device.budget.metrics().texture_bytes == 0


def test_an_interrupt_gives_the_place_back(device: AssembledDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    with device.staging_ring() as ring, AsyncTextureUploader(device, 1 / 1024, ring=ring) as uploader:

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        uploader.queue_texture_upload("t", picture(1))
        with monkeypatch.context() as patch:
            patch.setattr(type(ring), "upload", interrupted)
            with pytest.raises(KeyboardInterrupt):
                uploader.process_upload_queue()
        assert uploader.queue_texture_upload("t", picture(2))
        assert uploader.process_upload_queue().processed == 1
    device.wait_idle()
    assert device.budget.metrics().texture_bytes == 0


def test_compressed_textures_are_arrays_of_blocks(device: AssembledDevice) -> None:
    blocks = np.arange(2 * 4 * 8, dtype=np.uint8).reshape(2, 4, 8)
    with AsyncTextureUploader(device, 1) as uploader, device.readback_pool() as pool:
        uploader.queue_texture_upload("t", blocks, "bc1-rgba-unorm")
        assert uploader.process_upload_queue().processed == 1
        texture = uploader.get("t")
        assert texture is not None
        assert (texture.width, texture.height) == (16, 8)
        assert (pool.read(texture).wait() == blocks).all()
        with pytest.raises(UsageError, match="rows, columns"):
            uploader.queue_texture_upload("t", blocks.reshape(-1), "bc1-rgba-unorm")


def test_the_format_is_what_the_array_says() -> None:
    assert format_of(np.zeros((2, 3), np.float32)).name == "r32float"
    assert format_of(np.zeros((2, 3, 2), np.uint8)).name == "rg8unorm"
    assert format_of(np.zeros((2, 3, 4), np.float16)).name == "rgba16float"
    for wrong in (
        np.zeros((2, 3, 3), np.uint8),
        np.zeros((2, 3)),
        np.zeros(3, np.uint8),
        np.zeros((1,) * 4, "u1"),
    ):
        with pytest.raises(UsageError):
            format_of(wrong)


def test_wrong_use(device: AssembledDevice) -> None:
    for wrong in ({"policy": "hope"}, {"max_memory_mb": 0}):
        with pytest.raises(UsageError):
            AsyncTextureUploader(device, **wrong)  # type: ignore[arg-type]
    uploader = AsyncTextureUploader(device, 1 / 1024)
    with pytest.raises(TooLarge):
        uploader.queue_texture_upload("t", picture(0, 32))
    uploader.close()
    uploader.close()
    with pytest.raises(Closed):
        uploader.queue_texture_upload("t", picture(0))
    with pytest.raises(Closed):
        uploader.process_upload_queue()
