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
    return CompressedImage(width, height, layout, blocks)


def picture(width: int = 128, height: int = 96) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[0:height, 0:width]
    channels = [128 + 100 * np.sin(x / 17 + y / 29), 2 * y, 128 + 90 * np.cos(x * y / 900), 255 - x]
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


PILLOWS = {"bc1": (1, "RGBA"), "bc3": (3, "RGBA"), "bc4": (4, "L"), "bc5": (5, "RGB"), "bc7": (7, "RGBA")}


def reference(image: CompressedImage) -> np.ndarray[Any, Any]:
    """Return what Pillow decodes, as RGBA."""
    number, mode = PILLOWS[image.format.name.partition("-")[0]]
    size = image.width, image.height
    texels = np.asarray(Image.frombytes(mode, size, image.blocks.tobytes(), "bcn", number, ""))
    return rgba(texels)


@pytest.mark.parametrize("name", DECODED)
@pytest.mark.parametrize("size", [(256, 256), (4, 4), (17, 30)])
def test_the_host_decodes_as_the_reference_does(name: str, size: tuple[int, int]) -> None:
    image = random_blocks(name, *size)
    assert (decode(image) == reference(image)).all()


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
        read = pool.read(texels, dtype="u1", shape=(image.height, image.width, 4)).wait(20)
        assert (read == decode(image)).all()
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
    seven = psnr(image, reference(encode(image, "bc7-rgba-unorm")))
    assert seven > psnr(image, decode(encode(image, "bc3-rgba-unorm"))) + 3


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
    ]:
        with pytest.raises(UsageError):
            encode(image, name)
    with pytest.raises(UsageError, match="is not decoded here"):
        decode(random_blocks("bc7-rgba-unorm"))
    with pytest.raises(UsageError, match="blocks of its size"):
        decode(CompressedImage(64, 64, texture_format("bc1-rgba-unorm"), np.zeros(8, np.uint8)))
    assert psnr(picture(), picture()) == float("inf")
