"""What shadow maps take: presets, their bytes, and whether those are too many."""

from __future__ import annotations

from typing import NoReturn

import attrs

from forge3d_core.arguments import at_least, shown
from forge3d_core.errors import TooLarge, UsageError
from forge3d_core.formats import FORMATS, TextureShape, texture_format
from forge3d_core.protocols import TextureFormat
from forge3d_core.units import format_bytes, parse_bytes

MAX_CASCADES = 8
DEFAULT_LIMIT = "256 MiB"
"""Half of the 512 MiB that a process has by default for what it streams."""

SHADOW_FORMATS = ("depth16unorm", "depth24plus", "depth32float", "r32float", "rg32float", "rgba16float")
"""Depths as such, as numbers that kernels write, or as two or four moments of them."""


def _resolution(value: int) -> int:
    return at_least(16, "a shadow map's resolution, in texels,", value)


def _cascades(value: int) -> int:
    cascades = at_least(1, "cascades", value)
    if cascades > MAX_CASCADES:
        raise UsageError(f"a shadow has 1 to {MAX_CASCADES} cascades, not {shown(value)}")
    return cascades


def _format(value: TextureFormat | str) -> TextureFormat:
    layout = texture_format(value)
    if layout.name not in SHADOW_FORMATS:
        raise UsageError(f"a shadow map is one of {', '.join(SHADOW_FORMATS)}, not {layout.name}")
    return layout


@attrs.frozen
class ShadowConfig:
    """Square shadow maps of ``resolution`` texels, one for each of ``cascades`` (1 to 8).

    Raises :class:`UsageError`. Source: memory management guide, "Shadow Memory Validation".
    """

    resolution: int = attrs.field(default=2048, converter=_resolution)
    cascades: int = attrs.field(default=3, converter=_cascades)
    format: TextureFormat = attrs.field(default=FORMATS["depth32float"], converter=_format)

    def calculate_memory_usage(self) -> int:
        """Return the bytes of all maps, which are the layers of one texture."""
        return TextureShape(self.resolution, self.resolution, layers=self.cascades).nbytes(self.format)


PRESETS = {
    "low": ShadowConfig(1024, 2, "depth16unorm"),
    "medium": ShadowConfig(2048, 3, "depth32float"),
    "high": ShadowConfig(4096, 3, "depth32float"),
    "ultra": ShadowConfig(4096, 4, "depth32float"),
}
"""4, 48, 192 and 256 MiB."""


def get_preset_config(name: str) -> ShadowConfig:
    """Return the preset ``"low"``, ``"medium"``, ``"high"`` or ``"ultra"``, or :class:`UsageError`.

    ``"high_quality"`` is ``"high"``, and so for the others.
    """
    found = PRESETS.get(name.lower().removesuffix("_quality")) if isinstance(name, str) else None
    return found if found is not None else _unknown(name)


def validate_shadow_memory_constraint(config: ShadowConfig, limit: int | str = DEFAULT_LIMIT) -> None:
    """Raise :class:`TooLarge`, a ValueError, if the maps of ``config`` take more than ``limit`` bytes.

    The message says which of resolution and cascades would fit.
    """
    most, wanted = parse_bytes(limit), config.calculate_memory_usage()
    if wanted <= most:
        return
    fitting = config
    while fitting.calculate_memory_usage() > most and fitting.resolution >= 32:
        fitting = attrs.evolve(fitting, resolution=fitting.resolution // 2)
    raise TooLarge(
        f"{config.cascades} shadow map(s) of {config.resolution} x {config.resolution} {config.format.name} "
        f"take {format_bytes(wanted)}, more than the {format_bytes(most)} they may"
        + (
            f"; {fitting.resolution} x {fitting.resolution} would fit"
            if fitting.calculate_memory_usage() <= most
            else ""
        )
    )


def _unknown(name: object) -> NoReturn:
    raise UsageError(f"no shadow preset {shown(name)}; there are {', '.join(PRESETS)}")
