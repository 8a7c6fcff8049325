"""The tunings of earlier processes: a file for each machine, adapter, driver and version."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from forge3d_core.cache_files import cache_file, read_cache, write_cache
from forge3d_core.protocols import DeviceInfo
from forge3d_core.transfer.tuning import Tuning
from forge3d_core.transfer.workers import MAX_THREADS, default_threads, processors
from forge3d_core.units import KIB, MIB

FORMAT = 2
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


def find_tuning(info: DeviceInfo) -> Tuning | None:
    """Return the tuning that was measured for a device, or None. Raises nothing."""
    return _decoded(read_cache(tuning_file(info)))


def keep_tuning(info: DeviceInfo, tuning: Tuning) -> None:
    """Keep a tuning for later processes, where the user's cache folder can be written to."""
    write_cache(tuning_file(info), {"format": FORMAT, "tuning": attrs.asdict(tuning)})


def _decoded(told: Any) -> Tuning | None:
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        return None
    figures = told.get("tuning")
    if not isinstance(figures, dict) or figures.keys() != BOUNDS.keys():
        return None
    for name, (least, most) in BOUNDS.items():
        if type(figures[name]) is not int or not least <= figures[name] <= most:
            return None
    return Tuning(**figures) if figures["smallest"] <= figures["largest"] else None
