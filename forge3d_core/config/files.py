"""Reading a configuration file: a regular file of bounded size, and whose it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from forge3d_core.errors import ConfigError
from forge3d_core.printable import escaped

MAX_BYTES = 1 << 20
"""The largest file that is read."""


def read_file(path: Path, mentioning: str = "") -> tuple[str, str | None] | None:
    """Return the text of a file and who else can have written it, or None where there is no file.

    None, too, for one that does not mention what it would be read for.

    Only a regular file is opened: a FIFO would block, and a device has no end. Raises :class:`ConfigError`
    for anything else, for a file of more than 1 MiB, and for one that cannot be read or is not UTF-8.
    """
    place = escaped(str(path))
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{place}: is no regular file; take it away")
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{place}: is no regular file; take it away")
            data = file.read(MAX_BYTES + 1)
        suspect = _suspect(path, found)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError(f"{place}: cannot be read: {error}") from error
    if mentioning.encode() not in data:
        return None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{place}: is larger than {MAX_BYTES} bytes, which no configuration is")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n"), suspect
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: byte {error.start} is not UTF-8; save the file as UTF-8") from error


def _suspect(path: Path, found: os.stat_result) -> str | None:
    """Return who but this user and root can have written the file, or None."""
    if not hasattr(os, "geteuid"):
        return None
    trusted = (os.geteuid(), 0)
    link, folder = os.lstat(path), os.stat(path.parent)
    for owner in (found.st_uid, link.st_uid):
        if owner not in trusted:
            return f"belongs to user {owner}"
    if _open_to_others(found):
        return "can be written by other users"
    if _open_to_others(folder) and not folder.st_mode & stat.S_ISVTX:
        return "lies in a folder where other users can replace it"
    return None


def _open_to_others(found: os.stat_result) -> bool:
    """Whether others can write; a group with its user's number is that user's own, by convention."""
    group = bool(found.st_mode & stat.S_IWGRP) and found.st_gid != found.st_uid
    return group or bool(found.st_mode & stat.S_IWOTH)
