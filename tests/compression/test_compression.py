from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

import forge3d_core as forge3d
from forge3d_core.compression import DECODED, CompressedImage, decode, encode, psnr, upload_decoded
from forge3d_core.compression.encoder import rgba
from forge3d_core.errors import MissingDependency, UsageError
from forge3d_core.formats import texture_format

CODED = ["bc1-rgba-unorm", "bc3-rgba-unorm", "bc4-r-unorm", "bc5-rg-unorm", "bc7-rgba-unorm"]


def random_blocks(name: str, width: int = 256, height: int = 256) -> CompressedImage:
    """Return an image of blocks of any bits at all: every mode, order of ends and index occurs."""
    layout = texture_format(name)
    count = -(-width // 4) * -(-height // 4) * layout.block_bytes
    blocks = np.random.default_rng(count).integers(0, 256, count, dtype=np.uint8)
    if name.startswith("bc7"):  # by chance alone the last modes would be rare
        blocks[::32] = 1 << np.arange(len(blocks[::32])) % 8
    return CompressedImage(width, height, layout, blocks)


def picture(width: int = 128, height: int = 96) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:height, 0:width]
    channels = [128 + 100 * np.sin(x / 17 + y / 29), 2 * y, 128 + 90 * np.cos(x * y / 900), 255 - x]
    texels: np.ndarray[Any, Any] = np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)
    return texels


PILLOWS = {"bc1": (1, "RGBA"), "bc3": (3, "RGBA"), "bc4": (4, "L"), "bc5": (5, "RGB"), "bc7": (7, "RGBA")}


def reference(image: CompressedImage) -> np.ndarray[Any, Any]:
    """Return what Pillow decodes, as RGBA; of a mode of BC7 that is reserved it makes black, not nothing."""
    number, mode = PILLOWS[image.format.name.partition("-")[0]]
    size = image.width, image.height
    texels: np.ndarray[Any, Any] = rgba(
        np.asarray(Image.frombytes(mode, size, image.blocks.tobytes(), "bcn", number, ""))
    )
    if number == 7:
        reserved = np.flatnonzero(image.blocks[::16] == 0)
        for row, column in zip(*np.divmod(reserved, -(-image.width // 4)), strict=True):
            texels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
    return texels


def sampled(device: forge3d.Device, image: CompressedImage) -> np.ndarray[Any, Any]:
    """Return what the driver itself makes of the blocks when a shader loads each texel, as float32."""
    native, (width, height) = device.native, (image.width, image.height)
    rows, row = -(-height // 4), -(-width // 4) * 16
    texture = native.create_texture(size=(width, height, 1), format=image.format.name, usage=6)
    layout = {"bytes_per_row": row, "rows_per_image": rows}
    native.queue.write_texture({"texture": texture}, image.blocks.tobytes(), layout, (width, height, 1))
    target = native.create_buffer(size=16 * width * height, usage=128 | 4)
    code = """
        @group(0) @binding(0) var source: texture_2d<f32>;
        @group(0) @binding(1) var<storage, read_write> target_: array<vec4<f32>>;
        @compute @workgroup_size(1) fn load(@builtin(global_invocation_id) id: vec3<u32>) {
            let width = textureDimensions(source).x;
            target_[id.y * width + id.x] = textureLoad(source, vec2<i32>(id.xy), 0);
        }"""
    module = native.create_shader_module(code=code)
    pipeline = native.create_compute_pipeline(
        layout="auto", compute={"module": module, "entry_point": "load"}
    )
    resources = (texture.create_view(), {"buffer": target, "offset": 0, "size": 16 * width * height})
    group = native.create_bind_group(
        layout=pipeline.get_bind_group_layout(0),
        entries=[{"binding": number, "resource": resource} for number, resource in enumerate(resources)],
    )
    encoder = native.create_command_encoder()
    work = encoder.begin_compute_pass()
    work.set_pipeline(pipeline)
    work.set_bind_group(0, group)
    work.dispatch_workgroups(width, height)
    work.end()
    native.queue.submit([encoder.finish()])
    return np.frombuffer(native.queue.read_buffer(target), np.float32).reshape(height, width, 4)


@pytest.mark.parametrize("name", [name for name in DECODED if not name.startswith("bc6h")])
@pytest.mark.parametrize("size", [(256, 256), (4, 4), (17, 30)])
def test_the_host_decodes_as_the_reference_does(name: str, size: tuple[int, int]) -> None:
    image = random_blocks(name, *size)
    assert (decode(image) == reference(image)).all()


@pytest.mark.parametrize("backend", ["wgpu"], indirect=True)
@pytest.mark.parametrize("name", ["bc6h-rgb-ufloat", "bc6h-rgb-float", "bc7-rgba-unorm"])
def test_the_host_decodes_as_the_driver_does(backend: str, name: str) -> None:
    with forge3d.open_device(backend) as device:
        if name not in device.limits.texture_formats:
            pytest.skip(f"{device.info.name} has no textures of BC formats to compare with")
        image = random_blocks(name)
        wanted, found = sampled(device, image), decode(image)
        assert found.dtype == (np.float16 if "6h" in name else np.uint8)
        assert (found == (wanted if "6h" in name else np.rint(255 * wanted))).all()


@pytest.mark.parametrize("name", DECODED)
@pytest.mark.parametrize("size", [(256, 256), (3, 1), (17, 30)])
def test_a_device_decodes_as_the_host_does(backend: str, name: str, size: tuple[int, int]) -> None:
    image = random_blocks(name, *size)
    with (
        forge3d.open_device(backend) as device,
        device.staging_ring() as ring,
        device.readback_pool() as pool,
    ):
        texels, point = upload_decoded(device, ring, image)
        point.wait(20)
        wanted = decode(image)
        read = pool.read(texels, dtype=wanted.dtype, shape=wanted.shape).wait(20)
        assert (read == wanted).all()
        texels.close()
        device.wait_idle(20)
        assert device.budget.metrics().device_local_bytes == 0


@pytest.mark.parametrize(
    ("name", "channels", "least"),
    [
        ("bc1-rgba-unorm", 3, 34.0),
        ("bc3-rgba-unorm", 4, 35.0),
        ("bc4-r-unorm", 1, 42.0),
        ("bc5-rg-unorm", 2, 42.0),
    ],
)
def test_what_is_encoded_looks_like_the_image(name: str, channels: int, least: float) -> None:
    pytest.importorskip("etcpak", reason="the encoder is an extra")
    image = picture()
    coded = encode(image[..., :channels], name)
    assert coded.ratio == {8: 8, 16: 4}[coded.format.block_bytes]
    assert psnr(image[..., :channels], decode(coded)[..., :channels]) > least


def test_sides_that_are_no_multiple_of_a_block() -> None:
    pytest.importorskip("etcpak", reason="the encoder is an extra")
    image = picture(37, 21)
    coded = encode(image, "bc3-rgba-unorm")
    assert coded.blocks.nbytes == 10 * 6 * 16
    assert psnr(image, decode(coded)) > 30


@pytest.mark.parametrize("name", [*CODED, "etc2-rgb8unorm", "etc2-rgba8unorm"])
def test_each_format_has_its_bytes(name: str) -> None:
    pytest.importorskip("etcpak", reason="the encoder is an extra")
    coded = encode(picture(64, 32), name)
    assert coded.blocks.nbytes == 16 * 8 * texture_format(name).block_bytes


def test_bc7_is_the_best_of_them() -> None:
    pytest.importorskip("etcpak", reason="the encoder is an extra")
    image = picture()
    seven = psnr(image, decode(encode(image, "bc7-rgba-unorm")))
    assert seven > psnr(image, decode(encode(image, "bc3-rgba-unorm"))) + 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_bc6h_keeps_what_is_brighter_than_white(dtype: type) -> None:
    pytest.importorskip("ispc_texcomp", reason="the encoder is an extra")
    y, x = np.mgrid[0:30, 0:41]
    image: np.ndarray[Any, Any] = np.stack([np.exp(x / 9), y / 7 + 0.1, 0.01 * (x + y)], -1).astype(dtype)
    coded = encode(image, "bc6h-rgb-ufloat")
    texels = decode(coded)
    assert coded.blocks.nbytes == 11 * 8 * 16
    assert texels.max() > 80
    assert (texels[..., 3] == 1).all()
    assert psnr(image, texels[..., :3], float(image.max())) > 40


def test_formats_for_srgb_hold_the_same_bytes() -> None:
    pytest.importorskip("etcpak", reason="the encoder is an extra")
    plain, other = (encode(picture(), f"bc7-rgba-unorm{suffix}") for suffix in ("", "-srgb"))
    assert (plain.blocks == other.blocks).all()
    assert (decode(plain) == decode(other)).all()


@pytest.mark.parametrize("block", ["4x4", "8x8", "10x6"])
def test_astc(block: str) -> None:
    library = pytest.importorskip("astc_encoder", reason="the encoder is an extra")
    across, down = map(int, block.split("x"))
    image = picture(120, 96)
    coded = encode(image, f"astc-{block}-unorm")
    config = library.ASTCConfig(library.ASTCProfile.LDR, across, down)
    texels = library.ASTCImage(library.ASTCType.U8, 120, 96)
    library.ASTCContext(config).decompress(
        coded.blocks.tobytes(), texels, library.ASTCSwizzle.from_str("RGBA")
    )
    assert psnr(image, np.frombuffer(texels.data, np.uint8).reshape(96, 120, 4)) > 30


def test_without_an_encoder_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "etcpak", None)
    with pytest.raises(MissingDependency, match=r"forge3d-core\[compression\]"):
        encode(picture(), "bc1-rgba-unorm")


def test_what_is_wrong_is_refused() -> None:
    for image, name in [
        (picture().astype(np.float32), "bc1-rgba-unorm"),
        (picture()[0, 0], "bc1-rgba-unorm"),
        (picture(), "rgba8unorm"),
        (picture(), "bc6h-rgb-ufloat"),
        (picture().astype(np.float32), "bc6h-rgb-float"),
        (np.full((4, 4, 3), -1.0), "bc6h-rgb-ufloat"),
        (np.full((4, 4, 3), 1e6), "bc6h-rgb-ufloat"),
        (np.full((4, 4, 3), np.nan), "bc6h-rgb-ufloat"),
    ]:
        with pytest.raises(UsageError):
            encode(image, name)
    with pytest.raises(UsageError, match="is not decoded here"):
        decode(random_blocks("astc-4x4-unorm"))
    with pytest.raises(UsageError, match="blocks of its size"):
        decode(CompressedImage(64, 64, texture_format("bc1-rgba-unorm"), np.zeros(8, np.uint8)))
    assert psnr(picture(), picture()) == float("inf")
