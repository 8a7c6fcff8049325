"""Draw a pygfx scene off-screen, and take its frames home: as wgpu-py does, and then in five changed lines.

The pixels are the same. wgpu-py's `read_texture` waits until the GPU is idle, and only then is the next frame
drawn; here reads of earlier frames land while later ones are drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forge3d_core as forge3d

WIDTH, HEIGHT, FRAMES = 320, 200, 16
Images = list[NDArray[np.uint8]]


def before(texture: Any, queue: Any, draw: Callable[[int], None]) -> Images:
    images = []
    for number in range(FRAMES):
        draw(number)
        layout = {"bytes_per_row": 4 * WIDTH, "rows_per_image": HEIGHT}
        data = queue.read_texture({"texture": texture}, layout, (WIDTH, HEIGHT, 1))
        images.append(np.frombuffer(data, np.uint8).reshape(HEIGHT, WIDTH, 4))
    return images


def after(texture: Any, device: Any, draw: Callable[[int], None]) -> Images:
    picture, pool = device.adopt(texture), device.readback_pool(max_pending_ops=4)  # 1
    reads = []  # 2
    for number in range(FRAMES):
        draw(number)
        reads.append(pool.read(picture))  # 3
    return [read.wait() for read in reads]  # 4


def scene() -> tuple[Any, Callable[[int], None]]:
    """Return the texture that pygfx draws to, and what draws a frame."""
    import pygfx as gfx
    import wgpu
    from pygfx.renderers.wgpu.engine.update import ensure_wgpu_object

    target = gfx.Texture(
        dim=2, size=(WIDTH, HEIGHT, 1), format="rgba8unorm", usage=wgpu.TextureUsage.COPY_SRC
    )
    renderer = gfx.WgpuRenderer(target, pixel_scale=1)
    cube = gfx.Mesh(gfx.box_geometry(2, 2, 2), gfx.MeshPhongMaterial(color="#336699"))
    stage = gfx.Scene().add(gfx.Background.from_color("#fff", "#446"), gfx.AmbientLight(), cube)
    stage.add(gfx.DirectionalLight())
    camera = gfx.PerspectiveCamera(60, WIDTH / HEIGHT)
    camera.local.z = 5

    def draw(number: int) -> None:
        cube.local.rotation = (0.0, np.sin(number / 10), 0.0, np.cos(number / 10))
        renderer.render(stage, camera)

    draw(0)
    return ensure_wgpu_object(target), draw


with forge3d.open_device() as device:
    print(f"on {device.info.backend}: {device.info.name}")
    if device.info.backend != "wgpu" or find_spec("pygfx") is None:
        print(
            "pygfx draws through wgpu alone, and has to be installed (pip install pygfx): nothing to compare"
        )
    else:
        from forge3d_wgpu.sharing import make_default

        make_default(device)  # 5: pygfx draws with our device; adopt_device(its own, "wgpu") does as well
        texture, draw = scene()
        frames: dict[str, Images] = {}
        seconds: dict[str, list[float]] = {"before": [], "after": []}
        for _ in range(3):  # in turn, as the machine may be busy at times
            for name, run in (
                ("before", lambda: before(texture, device.native.queue, draw)),
                ("after", lambda: after(texture, device, draw)),
            ):
                began = time.perf_counter()
                frames[name] = run()
                seconds[name].append(time.perf_counter() - began)
        assert all(np.array_equal(*pair) for pair in zip(frames["before"], frames["after"], strict=True))
        assert not np.array_equal(frames["after"][0], frames["after"][-1])
        ratio = min(seconds["before"]) / min(seconds["after"])
        print(f"{FRAMES} frames: pixels equal, {ratio:.2f} times as many frames a second")
print("ok")
