"""A depth prepass on the device: what is visible is found first, and only that is shaded.

Terraces of a random city seen from above: many overlap, few are seen. The prepass finds, for each pixel, the
nearest triangle and the object that it belongs to; the main pass behind it shades each pixel once.
"""

import numpy as np

import forge3d_core as forge3d
from forge3d_core.pipeline import AsyncComputePrepass, SceneObject

WIDTH, HEIGHT, OBJECTS = 320, 200, 60


def quad(rng: np.random.Generator, number: int) -> SceneObject:
    """A rectangle somewhere, at some depth, in some colour."""
    x, y = rng.uniform(-20, WIDTH), rng.uniform(-20, HEIGHT)
    w, h = rng.uniform(10, 120, 2)
    depth = rng.uniform(0.1, 1.0)
    a, b, c, d = ((x, y, depth), (x + w, y, depth), (x + w, y + h, depth), (x, y + h, depth))
    return SceneObject(number, np.array([[a, b, c], [a, c, d]]), rng.uniform(0.2, 1, 3))


def main() -> None:
    rng = np.random.default_rng(7)
    scene = [quad(rng, number) for number in range(OBJECTS)]
    # One that covers everything, in front of the farther half: whatever is behind is never shaded.
    wall = np.array([[[-9, -9, 0.5], [999, -9, 0.5], [-9, 999, 0.5]]])
    scene.append(SceneObject(OBJECTS, wall, (0.1, 0.1, 0.1)))

    with forge3d.open_device() as device, AsyncComputePrepass(WIDTH, HEIGHT, device) as prepass:
        print(f"on {device.info.backend}: {device.info.name}")
        handle = prepass.compute_depth_prepass_async(scene)  # returns at once
        found = handle.result(timeout=30)
        print(
            f"{found.stats.pixels_with_geometry} pixels, depth complexity {found.stats.depth_complexity:.1f}"
        )

        main_pass = prepass.apply_early_z_optimization()
        saved = 1 - main_pass.pixels_shaded / main_pass.pixels_shaded_without
        print(
            f"{len(main_pass.visible_objects)} of {len(scene)} objects are visible; "
            f"{main_pass.pixels_shaded} pixels shaded, {saved:.0%} less than without"
        )
        assert found.stats.pixels_with_geometry == main_pass.pixels_shaded == WIDTH * HEIGHT
        assert found.depth_buffer.max() < 0.501
        assert set(np.unique(found.object_ids)) == {each.id for each in main_pass.visible_objects}
        assert main_pass.image.shape == (HEIGHT, WIDTH, 4)
    print("ok")


if __name__ == "__main__":
    main()
