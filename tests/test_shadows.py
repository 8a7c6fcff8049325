from __future__ import annotations

import pytest

from forge3d_core.errors import TooLarge, UsageError
from forge3d_core.shadows import (
    PRESETS,
    SHADOW_FORMATS,
    ShadowConfig,
    get_preset_config,
    validate_shadow_memory_constraint,
)

MIB = 1024**2


def test_what_the_presets_take() -> None:
    taken = {name: config.calculate_memory_usage() // MIB for name, config in PRESETS.items()}
    assert taken == {"low": 4, "medium": 48, "high": 192, "ultra": 256}


def test_a_preset_by_either_name() -> None:
    assert get_preset_config("high_quality") is get_preset_config("High") is PRESETS["high"]


@pytest.mark.parametrize("name", ["", "best", 3, None])
def test_another_preset_names_those_there_are(name: object) -> None:
    with pytest.raises(UsageError, match="low, medium, high, ultra"):
        get_preset_config(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", SHADOW_FORMATS)
def test_each_cascade_is_one_map(format: str) -> None:
    one, four = ShadowConfig(512, 1, format), ShadowConfig(512, 4, format)
    assert four.calculate_memory_usage() == 4 * one.calculate_memory_usage() > 512 * 512


def test_too_much_says_what_would_fit() -> None:
    config = get_preset_config("ultra")
    validate_shadow_memory_constraint(config)  # to the byte
    validate_shadow_memory_constraint(config, 256 * MIB)
    with pytest.raises(ValueError, match="2048 x 2048 would fit") as raised:
        validate_shadow_memory_constraint(config, 256 * MIB - 1)
    assert isinstance(raised.value, TooLarge)
    with pytest.raises(TooLarge) as raised:
        validate_shadow_memory_constraint(config, 10)
    assert "would fit" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [{"resolution": 8}, {"resolution": "big"}, {"cascades": 0}, {"cascades": 9}, {"format": "rgba8unorm"}],
)
def test_what_is_no_shadow_config(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ShadowConfig(**wrong)  # type: ignore[arg-type]
