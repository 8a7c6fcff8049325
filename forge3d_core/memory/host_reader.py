"""The one reader of the system's files on memory; it takes them as they are, and raises nothing."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path, PurePosixPath

from forge3d_core.memory import host_limits
from forge3d_core.memory.host_limits import HostLimits

MAX_BYTES = 64 << 10


@cache
def lasting_limits() -> HostLimits:
    """Return what the system said when this process first asked: for what lasts as long as it runs."""
    return read_limits()


def read_limits(root: Path = Path("/")) -> HostLimits:
    """Return what the system says now: eight small files or so, and nothing on systems that lack them."""
    total, available = host_limits.memory_of(_text(root / "proc/meminfo"))
    container, left = _container(root)
    locked, pressure = None, 0.0
    with contextlib.suppress(ValueError, LookupError):
        locked = host_limits.locked_of(_text(root / "proc/self/limits"), _text(root / "proc/self/status"))
    with contextlib.suppress(ValueError, LookupError):
        pressure = host_limits.pressure_of(_text(root / "proc/pressure/memory"))
    return HostLimits(
        total_bytes=total,
        available_bytes=available,
        container_bytes=container,
        container_left_bytes=left,
        locked_bytes=locked,
        wsl2=host_limits.is_wsl2(_text(root / "proc/sys/kernel/osrelease")),
        pressure=pressure,
    )


def _container(root: Path) -> tuple[int | None, int | None]:
    """Return the lowest limit of the groups that the process is in, and the least that is left in one.

    A group is limited by its parents too. In a container its path may be seen from outside; its folder is
    then the root of what is mounted, which stands last.
    """
    unified, memory = host_limits.cgroups_of(_text(root / "proc/self/cgroup"))
    files = (
        (unified, root / "sys/fs/cgroup", "memory.max", "memory.current"),
        (memory, root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    )
    limits, lefts = list[int](), list[int]()
    for path, mounted, limit_name, used_name in files:
        for folder in () if path is None else _upwards(mounted, path):
            limit = host_limits.limit_of(_text(folder / limit_name))
            if limit is None:
                continue
            limits.append(limit)
            if (used := host_limits.limit_of(_text(folder / used_name))) is not None:
                used -= host_limits.inactive_of(_text(folder / "memory.stat"))
                lefts.append(max(0, limit - used))
    return min(limits, default=None), min(lefts, default=None)


def _upwards(mounted: Path, path: str) -> list[Path]:
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    return [mounted.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]


def _text(path: Path) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(MAX_BYTES)
    except OSError:
        return ""
