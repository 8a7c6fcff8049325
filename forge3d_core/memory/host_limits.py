"""How much host-visible memory a process may have here: pure functions of what the system says.

Host-visible memory is page-locked, and that has limits of its own, which an API reports as "out of memory"
whatever is free on the device: those of the machine, of a container, and of WSL2.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from forge3d_core.protocols import DeviceInfo
from forge3d_core.units import GIB, MIB, format_bytes

GUIDES_LIMIT = 512 * MIB
"""Host-visible bytes of a process. Source: the memory management guide."""

WSL2_LIMIT = 384 * MIB
"""Pinning fails near 500 MB there, of all processes together."""

LEAST = 16 * MIB
"""No advice is lower: a ring, a pool and the device's own chunks fit."""

PRESSURE = 10.0
"""Percent of the last ten seconds that all work stood still for want of memory; above it, half is advised."""

BY_CLASS = {"nvidia": 1 * GIB, "discrete": 512 * MIB, "integrated": 256 * MIB}
"""What the host can see of a device's class, typically. Source: the memory management guide, by vendor."""


@attrs.frozen
class HostLimits:
    """What the system says. Bytes; None where it says nothing, or sets no limit.

    ``locked_bytes`` is ``RLIMIT_MEMLOCK``, None for a process that may lock any amount.
    """

    total_bytes: int | None = None
    available_bytes: int | None = None
    container_bytes: int | None = None  # the lowest limit of the control groups that the process is in
    container_left_bytes: int | None = None
    locked_bytes: int | None = None
    wsl2: bool = False
    pressure: float = 0.0  # percent: full, over ten seconds


@attrs.frozen
class Advice:
    """A limit in bytes, and why it is not another; the reason is empty where nothing speaks for another."""

    nbytes: int
    reason: str = ""


def default_limit(limits: HostLimits) -> Advice:
    """Return the limit of a device that nothing configures: the guide's, or what is less."""
    return _lowest(Advice(GUIDES_LIMIT), _lasting(limits))


def fitting_limit(limits: HostLimits, info: DeviceInfo, held: int = 0) -> Advice:
    """Return the limit that fits a device's class and what the machine has left now.

    ``held`` are the host-visible bytes that the process holds already, which are gone from what is left.
    """
    return _lowest(_of_class(info), (*_lasting(limits), *_passing(limits, held)))


def _of_class(info: DeviceInfo) -> Advice:
    words = f"{info.backend} {info.name} {info.driver}".lower()
    kind = "nvidia" if info.kind == "discrete" and ("nvidia" in words or "cuda" in words) else info.kind
    nbytes = BY_CLASS.get(kind)
    if nbytes is None:
        return Advice(GUIDES_LIMIT)
    return Advice(nbytes, f"what the host can see of a device of its class ({kind}), typically")


def _lasting(limits: HostLimits) -> Iterator[Advice]:
    """Yield what the machine and the container set for as long as they run."""
    if limits.total_bytes is not None:
        yield Advice(
            limits.total_bytes // 4, f"a quarter of the {format_bytes(limits.total_bytes)} of memory"
        )
    if (container := limits.container_bytes) is not None:
        yield Advice(container // 2, f"half of the {format_bytes(container)} that the container may use")
    if limits.wsl2:
        yield Advice(WSL2_LIMIT, "WSL2 locks about 500 MB for all processes together")


def _passing(limits: HostLimits, held: int) -> Iterator[Advice]:
    """Yield what is left at present, and not more than half of it."""
    for left, where in (
        (limits.available_bytes, "the machine"),
        (limits.container_left_bytes, "the container"),
    ):
        if left is not None:
            yield Advice((left + held) // 2, f"half of the {format_bytes(left + held)} that {where} has left")
    if limits.pressure > PRESSURE:
        yield Advice(
            GUIDES_LIMIT // 2, f"work stood still for want of memory, {limits.pressure:.0f} % of the time"
        )


def _lowest(first: Advice, others: Iterator[Advice] | tuple[Advice, ...]) -> Advice:
    found = min((first, *others), key=lambda advice: advice.nbytes)  # the first of equals
    return found if found.nbytes >= LEAST else Advice(LEAST, found.reason)


# What the system's files say, as their text.


def memory_of(meminfo: str) -> tuple[int | None, int | None]:
    """Return the total and the available bytes that ``/proc/meminfo`` tells."""
    found = {line.split(":")[0]: line.split() for line in meminfo.splitlines() if ":" in line}
    total, available = (found.get(name, ()) for name in ("MemTotal", "MemAvailable"))
    return _kibibytes(total), _kibibytes(available)


def cgroups_of(text: str) -> tuple[str | None, str | None]:
    """Return the paths of the groups of version 2 and of version 1's memory in ``/proc/self/cgroup``."""
    unified = memory = None
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" and path:
            unified = path
        elif "memory" in controllers.split(","):
            memory = path
    return unified, memory


def limit_of(text: str) -> int | None:
    """Return the bytes of a group's limit, None for no limit: "max", or more than any machine has."""
    number = _number(text)
    return None if number is None or number >= 1 << 62 else number


def inactive_of(stat: str) -> int:
    """Return the bytes of cached files that a group's ``memory.stat`` tells, which it gives up when asked."""
    found = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)
    return _number(found.get("total_inactive_file", found.get("inactive_file", ""))) or 0


def locked_of(limits: str, status: str) -> int | None:
    """Return ``RLIMIT_MEMLOCK`` by ``/proc/self/limits``, None where the status has CAP_IPC_LOCK."""
    for line in status.splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) >> 14 & 1:
            return None
    for line in limits.splitlines():
        if line.startswith("Max locked memory"):
            return _number(line.split()[3])
    return None


def pressure_of(text: str) -> float:
    """Return the percentage of ten seconds that all work stood still, of ``/proc/pressure/memory``."""
    for line in text.splitlines():
        if line.startswith("full"):
            return float(dict(part.split("=") for part in line.split()[1:])["avg10"])
    return 0.0


def is_wsl2(osrelease: str) -> bool:
    return "microsoft" in osrelease.lower()


def _kibibytes(words: list[str] | tuple[()]) -> int | None:
    number = _number(words[1]) if len(words) > 1 else None
    return None if number is None else number * 1024


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None
