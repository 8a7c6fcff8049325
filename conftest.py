"""What all tests share: which of them touch an adapter, their order, and how many processes run them."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

LONG_SECONDS = 600
"""After this a long test is stopped and has failed: several times what it takes on a machine that is busy."""

os.environ.setdefault("FORGE3D_TUNING", "fixed")  # what is measured differs from run to run

WGPU_TESTS = Path(__file__).parent / "backends" / "wgpu_backend" / "tests"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores, as many tests wait for a device or for a process."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)  # so that -m sees the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _touches_adapter(item):
            item.add_marker("adapter")
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))
    # Long tests start first; a process that took one of them last would keep the others waiting.
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what tests make, not at pytest: many tests call it, some often."""
    gc.collect()
    gc.freeze()


def _touches_adapter(item: pytest.Item) -> bool:
    if item.path.is_relative_to(WGPU_TESTS):
        return True
    callspec = getattr(item, "callspec", None)
    return callspec is not None and str(callspec.params.get("backend", "")).startswith("wgpu")
