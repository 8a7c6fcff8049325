"""The tunings of earlier processes: a file for each machine, adapter, driver and version."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from forge3d_core.cache_files import cache_file, read_cache, write_cache
from forge3d_core.protocols import DeviceInfo
from forge3d_core.transfer.tuning import Tuning, Tunings
from forge3d_core.transfer.workers import MAX_THREADS, default_threads, processors
from forge3d_core.units import KIB, MIB

_log = logging.getLogger(__name__)

FORMAT = 3
"""Of the files and of the measurement: what another one wrote is not looked at."""

BOUNDS = {
    "threshold": (256 * KIB, 64 * MIB),
    "share": (64 * KIB, 1024 * MIB),
    "smallest": (64 * KIB, 64 * MIB),
    "largest": (64 * KIB, 64 * MIB),
    "depth": (1, 16),
    "helpers": (0, MAX_THREADS),
}
"""What a file may say; it is data of a folder, and no more than advice."""


def tuning_file(info: DeviceInfo) -> Path | None:
    """Return where the tuning of a device is kept on this machine."""
    facts = (
        *("forge3d tuning", FORMAT, np.__version__, platform.node(), platform.machine()),
        *(os.cpu_count(), processors(), default_threads()),
        *(info.backend, info.name, info.selector, info.kind, info.driver, info.memory_bytes),
    )
    digest = hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()
    return cache_file("tunings", digest)


def find_tuning(info: DeviceInfo) -> Tunings | None:
    """Return what was measured for a device, or None. Raises nothing.

    A file that is damaged, or another user's, is ignored, with a warning in the log.
    """
    path = tuning_file(info)
    found = _decoded(read_cache(path))
    if found is None and path is not None and os.path.lexists(path):
        _log.warning("the tuning kept in %s is damaged or not yours; it is ignored, and measured anew", path)
    return found


def keep_tuning(info: DeviceInfo, tunings: Tunings) -> None:
    """Keep what was measured for later processes, where the user's cache folder can be written to."""
    write_cache(tuning_file(info), {"format": FORMAT, **attrs.asdict(tunings)})


def _decoded(told: Any) -> Tunings | None:
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        return None
    upload, read = _tuning(told.get("upload")), _tuning(told.get("read"))
    return None if upload is None or read is None else Tunings(upload, read)


def _tuning(figures: Any) -> Tuning | None:
    if not isinstance(figures, dict) or figures.keys() != BOUNDS.keys():
        return None
    for name, (least, most) in BOUNDS.items():
        if type(figures[name]) is not int or not least <= figures[name] <= most:
            return None
    return Tuning(**figures) if figures["smallest"] <= figures["largest"] else None
