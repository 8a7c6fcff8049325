"""What probes found lately: it saves a start of a process, and is never more than advice.

An answer is kept under a digest of what it depends on: the plugin's files and metadata, the interpreter and
its path, the environment, the machine's device nodes and drivers. A file that is damaged, stale, too large or
another user's is ignored; what is read is data, checked as a probe's answer is, and opening a device is the
truth. ``forge3d backends`` and ``forge3d explain`` probe afresh.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs

from forge3d_core.cache_files import MAX_FILES, cache_file, read_cache, write_cache
from forge3d_core.errors import BackendError, PluginFailed
from forge3d_core.hookspecs import API
from forge3d_core.plugins.answers import decoded, encoded
from forge3d_core.plugins.discovery import Candidate
from forge3d_core.protocols import DeviceInfo

SECONDS = 3600.0
FAILED_SECONDS = 60.0  # a crash or a timeout may have been the machine's load
MAX_SOURCES = 500

PASSING = ("PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", "PYTEST_CURRENT_TEST", "FORGE3D_TOP")
"""Variables that say nothing about devices and change all the time."""

MACHINE = (
    *("/dev/dri", "/dev/kfd", "/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia1", "/dev/dxg"),
    *("/etc/ld.so.cache", "/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"),
    *("/usr/share/glvnd/egl_vendor.d", "/proc/driver/nvidia/version", "/proc/sys/kernel/random/boot_id"),
)
"""What changes when a device or a driver comes or goes, as far as the system shows it."""


@attrs.define(eq=False)
class ProbeCache:
    """Answers in memory, and in files of the user's cache folder. Thread-safety: all methods, any thread."""

    _memory: dict[str, tuple[float, dict[str, Any]]] = attrs.field(factory=dict)

    def find(self, key: str, name: str) -> tuple[DeviceInfo, ...] | BackendError | None:
        """Return the answer under ``key``, or None where there is none that may still be used."""
        when, told = self._memory.get(key) or _entry(read_cache(_file(key))) or (0.0, None)
        if told is None:
            return None
        try:
            outcome: tuple[DeviceInfo, ...] | BackendError = decoded(told, name)
        except BackendError as error:
            outcome = error
        lifetime = FAILED_SECONDS if isinstance(outcome, PluginFailed) else SECONDS
        return outcome if 0 <= time.time() - when <= lifetime else None

    def keep(self, key: str, outcome: tuple[DeviceInfo, ...] | BackendError) -> None:
        """Keep an answer; a folder that cannot be written to costs nothing but the time saved."""
        entry = (time.time(), encoded(outcome))
        if len(self._memory) >= MAX_FILES:
            self._memory.clear()
        self._memory[key] = entry
        write_cache(_file(key), entry)

    def forget(self, key: str) -> None:
        """Take an answer away, which turned out wrong."""
        self._memory.pop(key, None)
        try:
            path = _file(key)
            if path is not None:
                path.unlink(missing_ok=True)
        except OSError:
            pass


def fingerprint(candidate: Candidate, *timeouts: float) -> str | None:
    """Return the digest of what a probe's answer depends on, or None where that cannot be told."""
    sources = list(_sources(candidate))
    if not sources:
        return None
    environment = sorted((k, v) for k, v in os.environ.items() if k not in PASSING)
    facts = (
        *("forge3d probe 1", str(API), sys.version, sys.executable, sys.prefix, platform.node()),
        *(candidate.name, candidate.distribution, candidate.version, candidate.target, candidate.location),
        *(sources, timeouts, environment, list(map(_changed, sys.path)), list(map(_machine, MACHINE))),
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()


def _sources(candidate: Candidate) -> Iterator[tuple[str, int]]:
    """Yield the plugin's files and when each was changed last; imports nothing."""
    try:
        spec = find_spec(candidate.package)
    except (ImportError, ValueError, AttributeError):
        return
    if spec is None:
        return
    if spec.origin and spec.has_location:
        yield spec.origin, _changed(spec.origin)
    number = 0
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).rglob("*.py")):
            yield str(path), _changed(str(path))
            number += 1
            if number > MAX_SOURCES:
                return
    if candidate.location:
        yield candidate.location, _changed(candidate.location)


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return -1


def _machine(path: str) -> tuple[int, str]:
    """Return when a path changed, and what is in it: device nodes come and go."""
    try:
        if os.path.isdir(path):
            return _changed(path), ",".join(sorted(os.listdir(path)))
        if path.startswith("/proc"):
            return 0, Path(path).read_text("utf-8", "replace")[:500]
    except OSError:
        pass
    return _changed(path), ""


def _file(key: str) -> Path | None:
    return cache_file("probes", key)


def _entry(kept: Any) -> tuple[float, dict[str, Any]] | None:
    try:
        when, told = kept
        return (float(when), told) if isinstance(told, dict) else None
    except (ValueError, TypeError):
        return None
