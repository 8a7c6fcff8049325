"""Small JSON files in the user's cache folder: what they say is advice, and none of them need be there.

A file that is damaged, too large or another user's is ignored. A folder that cannot be written to costs
nothing but the time that a file would have saved. Files appear whole, as they are renamed into place.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

import platformdirs

MAX_BYTES = 256 << 10
MAX_FILES = 64
"""How many files a folder keeps; the oldest go first."""

KEY_LENGTH = 64
"""Of the digests that files are named by; what has a shorter name is not ours to take away."""


def cache_file(folder: str, key: str) -> Path | None:
    """Return where the file of ``key`` is, there or not; None where the user has no cache folder."""
    try:
        return Path(platformdirs.user_cache_dir("forge3d", appauthor=False)) / folder / f"{key}.json"
    except (OSError, RuntimeError, KeyError):  # there is no home
        return None


def read_cache(path: Path | None) -> Any:
    """Return what a file holds, or None. Raises nothing."""
    try:
        if path is None or not _sound(os.lstat(path)):
            return None
        with open(path, "rb") as file:
            return json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return None


def write_cache(path: Path | None, value: Any) -> None:
    """Write a file, at once as a whole, if that can be done. Raises nothing for what the system refuses."""
    data = json.dumps(value).encode()
    if path is None or len(data) > MAX_BYTES:
        return
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            part.touch(mode=0o600, exist_ok=False)
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        _prune(path.parent)
    except OSError:
        pass


def _sound(found: os.stat_result) -> bool:
    mine = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
    return stat.S_ISREG(found.st_mode) and found.st_size <= MAX_BYTES and mine


def _prune(folder: Path) -> None:
    """Take the oldest files away; only what has a name of ours counts."""
    names = [p for p in folder.iterdir() if len(p.name) > KEY_LENGTH and p.suffix in (".json", ".part")]
    for path in sorted(names, key=_changed)[:-MAX_FILES]:
        path.unlink(missing_ok=True)


def _changed(path: Path) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return -1
