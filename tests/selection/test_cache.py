"""What probes found lately is advice: a file that is stale, damaged or another's is ignored."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def remembered(site):
    """Return the status of a plugin ``best`` whose first import, which writes files, is over."""
    site.install("best")
    site.registry().statuses(("best",))
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "forge3d")
    (status,) = site.registry().statuses(("best",))
    assert not status.cached
    return status


def test_what_was_found_lately_is_advice_and_opening_the_truth(site):
    known = remembered(site)
    (again,) = site.registry().statuses(("best",))  # another program's
    assert again.cached
    assert again.devices == known.devices
    (fresh,) = site.registry().statuses(("best",), fresh=True)
    assert not fresh.cached


@pytest.mark.parametrize(
    "content",
    [b"", b"[", b"[1]", b'[1e9, {"devices": [{}]}]', b"[" * 100_000, b'["x", {}]', b"[9e99, 5]", b"\xff" * 9],
)
def test_a_damaged_cache_file_is_ignored(site, tmp_path, content):
    remembered(site)
    (file,) = (tmp_path / "cache" / "forge3d" / "probes").iterdir()
    file.write_bytes(content)
    (status,) = site.registry().statuses(("best",))
    assert (status.state.value, status.cached) == ("available", False)


def test_a_cache_that_another_can_write_is_ignored(site, tmp_path):
    remembered(site)
    (file,) = (tmp_path / "cache" / "forge3d" / "probes").iterdir()
    file.chmod(0o666)
    (status,) = site.registry().statuses(("best",))
    assert not status.cached
    file.unlink()
    os.mkfifo(file)
    (status,) = site.registry().statuses(("best",))
    assert (status.state.value, status.cached) == ("available", False)


def test_a_changed_plugin_is_probed_afresh(site):
    remembered(site)
    (site.folder / "forge3d_best_pkg" / "more.py").write_text("", "utf-8")
    (status,) = site.registry().statuses(("best",))
    assert not status.cached
