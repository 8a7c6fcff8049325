"""Where a run took place: enough to compare machines, nothing that names one."""

from __future__ import annotations

import os
import platform
import re

import attrs
import numpy as np


@attrs.frozen
class BackendIdentity:
    """What was tested: the plugin, its distribution, and the device it opened."""

    name: str
    distribution: str
    version: str
    adapter: str
    driver: str = ""
    selector: str = ""
    kind: str = ""


@attrs.frozen
class Platform:
    """The machine and the interpreter. No host name, no user name, no path."""

    os: str
    os_version: str
    machine: str
    cores: int
    python: str
    implementation: str
    numpy: str


def this_platform() -> Platform:
    """Return the platform that this process runs on."""
    return Platform(
        os=platform.system(),
        os_version=_numbers(platform.release()),
        machine=platform.machine(),
        cores=_usable_cores(),
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        numpy=np.__version__,
    )


def _numbers(release: str) -> str:
    """Return a kernel's version without what its builder added, which may name a person or a machine."""
    match = re.match(r"\d+(\.\d+)*", release)
    return match[0] if match else ""


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
