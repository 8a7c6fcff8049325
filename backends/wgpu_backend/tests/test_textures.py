"""Textures of a native device: their formats by its features, and the owner's own, read in order with it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import NoDevice, UsageError
from forge3d_core.formats import FORMATS
from forge3d_core.protocols import DeviceOptions, TextureFormat
from forge3d_wgpu.plugin import WgpuBackend
from forge3d_wgpu.textures import FEATURES, RENDERABLE, STORAGE_FORMATS, feature_of, formats_of

PATIENCE = 30.0


@pytest.fixture(scope="module")
def device(backend: WgpuBackend) -> Any:
    with backend.open() as opened:
        yield opened


def test_every_format_is_of_webgpu_or_of_a_feature() -> None:
    assert set(formats_of(FEATURES)) == set(FORMATS)
    plain = set(formats_of(()))
    assert {"rgba8unorm", "bgra8unorm-srgb", "rgb9e5ufloat", "depth24plus-stencil8", "stencil8"} <= plain
    assert not {name for name in plain if FORMATS[name].block != (1, 1)}
    assert feature_of(FORMATS["eac-r11snorm"]) == "texture-compression-etc2"
    assert plain >= (RENDERABLE | STORAGE_FORMATS) - {"depth32float-stencil8"}
    assert feature_of(TextureFormat("rgba16unorm", 8)) == "texture-format16bit-norm"


def make(device: Any, size: tuple[int, int, int], **descriptor: Any) -> Any:
    import wgpu

    usage = descriptor.pop("usage", wgpu.TextureUsage.COPY_SRC | wgpu.TextureUsage.COPY_DST)
    return device.native.create_texture(size=size, format="rgba8unorm", usage=usage, **descriptor)


@pytest.mark.parametrize(
    ("size", "descriptor", "shape"),
    [
        ((9, 5, 1), {}, (5, 9, 4)),
        ((9, 5, 3), {}, (3, 5, 9, 4)),
        ((9, 5, 3), {"dimension": "3d"}, (3, 5, 9, 4)),
        ((9, 5, 2), {"mip_level_count": 3}, (2, 5, 9, 4)),
    ],
)
def test_what_the_owner_writes_is_read_and_what_is_uploaded_the_owner_sees(
    device: Any, size: tuple[int, int, int], descriptor: dict[str, Any], shape: tuple[int, ...]
) -> None:
    native, queue = make(device, size, **descriptor), device.native.queue
    texture = device.adopt(native, label="theirs")
    assert (texture.width, texture.height, texture.mip_levels) == (9, 5, descriptor.get("mip_level_count", 1))
    layout = {"bytes_per_row": 36, "rows_per_image": 5}
    with device.readback_pool() as pool, device.staging_ring() as ring:
        for value in range(1, 6):  # each read lies between two writes of the owner's
            data = np.full(shape, value, np.uint8)
            queue.write_texture({"texture": native}, data, layout, size)
            read = pool.read(texture)
            queue.write_texture({"texture": native}, data + 100, layout, size)
            assert (read.wait(PATIENCE) == value).all()
        data = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        ring.upload(data, texture)
        back = queue.read_texture({"texture": native}, layout, size)
        np.testing.assert_array_equal(np.frombuffer(back, np.uint8).reshape(shape), data)
    texture.close()
    queue.read_texture({"texture": native}, layout, size)  # it is the owner's, and stays


def test_what_is_rendered_comes_home(device: Any) -> None:
    import wgpu

    usage = wgpu.TextureUsage.RENDER_ATTACHMENT | wgpu.TextureUsage.COPY_SRC
    target = make(device, (64, 32, 1), usage=usage)
    texture, native = device.adopt(target), device.native
    with device.readback_pool(max_pending_ops=8) as pool, device.staging_ring() as ring:
        reads = []
        for value in range(8):
            encoder = native.create_command_encoder()
            colour = {"view": target.create_view(), "load_op": "clear", "store_op": "store"}
            colour["clear_value"] = (value / 255, 0, 0, 1)
            encoder.begin_render_pass(color_attachments=[colour]).end()
            native.queue.submit([encoder.finish()])
            reads.append(pool.read(texture))
        for value, read in enumerate(reads):
            assert (read.wait(PATIENCE) == (value, 0, 0, 255)).all()
        with pytest.raises(UsageError, match="COPY_DST"):
            ring.upload(np.zeros((32, 64, 4), np.uint8), texture)


def test_depth_that_was_rendered_is_read(device: Any) -> None:
    with device.create_texture(16, 8, "depth32float") as depth, device.readback_pool() as pool:
        native = device.native
        encoder = native.create_command_encoder()
        encoder.begin_render_pass(
            color_attachments=[],
            depth_stencil_attachment={
                "view": depth.native.create_view(),
                "depth_clear_value": 0.25,
                "depth_load_op": "clear",
                "depth_store_op": "store",
            },
        ).end()
        native.queue.submit([encoder.finish()])
        assert (pool.read(depth).wait(PATIENCE) == np.float32(0.25)).all()


def test_what_is_not_adopted(device: Any) -> None:
    import wgpu

    usage = wgpu.TextureUsage
    destroyed = make(device, (4, 4, 1))
    destroyed.destroy()
    with WgpuBackend().open() as other:
        for native, format, says in (
            (make(device, (4, 4, 1), usage=usage.COPY_DST), None, "COPY_SRC"),
            (make(other, (4, 4, 1)), None, "another wgpu device"),
            (make(device, (4, 4, 1)), "r32float", "rgba8unorm, not r32float"),
            (make(device, (4, 1, 1), dimension="1d"), None, "1-d"),
            (np.zeros((4, 4, 4), np.uint8), "rgba8unorm", "GPUTexture"),
            (destroyed, None, "adopting a texture"),
        ):
            with pytest.raises(UsageError, match=says):
                device.adopt(native, format=format)


def test_features_and_limits_are_asked_for(backend: WgpuBackend) -> None:
    options = DeviceOptions(features=["float32_filterable"], limits={"max_bind_groups": 4})
    with backend.open("", options) as opened:
        assert "float32-filterable" in opened.limits.features
        assert opened.native.limits["max-bind-groups"] == 4
    for wrong, says in (
        (DeviceOptions(features=["no-such-feature"]), "no-such-feature"),
        (DeviceOptions(limits={"no-such-limit": 1}), "no-such-limit"),
    ):
        with pytest.raises(NoDevice, match=says):
            backend.open("", wrong)


SHARED = """
import forge3d_core as forge3d, wgpu
from forge3d_wgpu.sharing import make_default
with forge3d.open_device("wgpu") as device:
    wgpu.preconfigure_default_device("somebody", required_features={"float32-filterable"})
    make_default(device)
    assert wgpu.get_default_device() is device.native
    try:
        make_default(device)
    except forge3d.StateError as error:
        assert "adopt_device" in str(error)
        print("ok")
"""


@pytest.mark.usefixtures("backend")
def test_a_device_becomes_the_default_one_once() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHARED], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("ok\n", ""), done.stderr
