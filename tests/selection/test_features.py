"""What is asked of the API's own device: given, or refused in words, and nothing is left open."""

from __future__ import annotations

import pytest

import forge3d_core as forge3d


def test_a_device_without_features_is_refused() -> None:
    for asked, says in (
        ({"features": ["texture-compression-bc"]}, "no feature texture-compression-bc"),
        ({"limits": {"max-bind-groups": 4}}, "no limit max-bind-groups"),
    ):
        with pytest.raises(forge3d.NoDevice, match=says):
            forge3d.open_device("host", **asked)  # type: ignore[arg-type]


def test_what_is_no_feature_and_no_limit() -> None:
    for asked in ({"features": "bc"}, {"features": [1]}, {"limits": 3}, {"limits": {"max": 1.5}}):
        with pytest.raises(forge3d.UsageError):
            forge3d.open_device("host", **asked)  # type: ignore[arg-type]
