"""Where a run took place, without naming the machine."""

from __future__ import annotations

import os
import platform

import pytest

from forge3d_conformance.report import this_platform


def test_it_is_this_platform() -> None:
    here = this_platform()
    assert here.python == platform.python_version()
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert here.machine


@pytest.mark.parametrize(
    ("release", "published"),
    [("6.1.0-13-amd64", "6.1.0"), ("5.15.0-adas-laptop", "5.15.0"), ("10", "10"), ("custom", "")],
)
def test_a_kernels_own_name_is_left_out(
    monkeypatch: pytest.MonkeyPatch, release: str, published: str
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert this_platform().os_version == published
