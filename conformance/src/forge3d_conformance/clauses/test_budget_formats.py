"""The budget counts textures by the bytes of their formats, as WebGPU's table has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.budget_model import held
from forge3d_conformance.texels import MANDATORY
from forge3d_conformance.texture_table import LAYOUTS, Layout
from forge3d_core.errors import UsageError
from forge3d_core.protocols import Device


def _extents(device: Device) -> Iterator[dict[str, int]]:
    """Yield what textures of this device may have besides a width and a height."""
    yield {}
    limits: Any = device.limits
    if (layers := getattr(limits, "max_texture_layers", 1)) > 1:
        yield {"mip_levels": 3}
        yield {"layers": min(6, layers)}
        yield {"layers": 2, "mip_levels": 2}
        yield {"samples": 4}
    if (depth := getattr(limits, "max_texture_depth", 1)) > 1:
        yield {"depth": min(5, depth), "mip_levels": 2}


def _wanted(layout: Layout, size: tuple[int, int], extent: dict[str, int]) -> tuple[int, int]:
    least, most = layout.nbytes(*size, extent.get("depth", 1), extent.get("mip_levels", 1))
    images = extent.get("layers", 1) * extent.get("samples", 1)
    return least * images, most * images


@pytest.mark.clause("budget.formats", requires=("textures",))
def test_a_texture_takes_what_its_format_says(bench: Bench) -> None:
    device = bench.open()
    made = []
    side = min(64, device.limits.max_texture_size)
    for name, layout in LAYOUTS.items():
        across, down = layout.block
        size = side // across * across, side // 2 // down * down
        for extent in _extents(device):
            before = held(device.budget.metrics())
            make: Any = device.create_texture
            try:
                texture = make(*size, name, **extent)
            except UsageError:  # the device has no such texture, and says so
                bench.check(
                    held(device.budget.metrics()) == before,
                    f"a texture of {name} that was refused is counted",
                )
                continue
            after = held(device.budget.metrics())
            least, most = _wanted(layout, size, extent)
            counted = after.texture_bytes - before.texture_bytes
            bench.check(
                least <= counted <= most + max(4096, most // 16),
                f"a texture of {size[0]} x {size[1]} {name} {extent or ''} takes {least} to {most} bytes, "
                f"and {counted} were counted",
            )
            texture.close()
            device.wait_idle(bench.patience)
            bench.check(held(device.budget.metrics()) == before, f"a texture of {name} stays counted")
            made.append(name)
    bench.check(MANDATORY in made, f"there is no texture of {MANDATORY}")
