"""The folder where processes of one user tell what their devices hold: a file of JSON each.

It is the user's alone: mode 0700, owned by the user, no link. What is not is refused, by those who write and
by those who read. What is read is data, of bounded size, and never more than shown.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from forge3d_core.errors import UsageError
from forge3d_core.status.figures import MAX_BYTES, ProcessStatus, decoded, encoded

VARIABLE = "FORGE3D_TOP"
SHARED = "1"
"""The variable's value for the user's own folder; any other is the path of a folder."""

PRIVATE = 0o700


@attrs.frozen
class Board:
    """The folder. ``shared``: of all programs of the user, so that each takes away what it wrote."""

    folder: Path
    shared: bool

    @classmethod
    def of_user(cls) -> Board:
        """Return the board in the user's runtime folder, or in that for temporary files."""
        if runtime := os.environ.get("XDG_RUNTIME_DIR"):
            parent = Path(runtime)
            if parent.is_absolute() and parent.is_dir():
                return cls(parent / f"forge3d-top-{_user()}", True)
        return cls(Path(tempfile.gettempdir()) / f"forge3d-top-{_user()}", True)

    @classmethod
    def asked_for(cls) -> Board | None:
        """Return the board that the environment asks this process to write to, or None, as by default."""
        wanted = os.environ.get(VARIABLE, "").strip()
        if wanted in ("", "0"):
            return None
        return cls.of_user() if wanted == SHARED else cls(Path(wanted), False)

    def prepare(self) -> None:
        """Make the folder where it is the shared one and not there; raise what :meth:`check` does."""
        if self.shared:
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(PRIVATE)
        self.check()

    def check(self) -> None:
        """Raise :class:`UsageError` unless the folder is there and the user's alone."""
        try:
            found = os.lstat(self.folder)
        except OSError as error:
            raise UsageError(f"{VARIABLE}: {self.folder} is no folder: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise UsageError(f"{VARIABLE}: {self.folder} is no folder")
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077):
            raise UsageError(
                f"{VARIABLE}: {self.folder} is not this user's alone (owner {found.st_uid}, mode "
                f"{stat.S_IMODE(found.st_mode):o}); remove it, or try: chmod 700"
            )

    def write(self, status: ProcessStatus) -> None:
        """Put a status in the place of the process's last one: in one step, for those who read."""
        path = self._path(status.pid)
        fresh = path.with_suffix(".new")
        descriptor = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600
        )
        with open(descriptor, "wb") as file:
            file.write(encoded(status))
        os.replace(fresh, path)

    def remove(self, pid: int) -> None:
        """Take away what a process told."""
        for path in (self._path(pid), self._path(pid).with_suffix(".new")):
            with contextlib.suppress(OSError):
                path.unlink()

    def read(self) -> list[ProcessStatus]:
        """Return what processes told, by process id; on the shared board, of those that still run.

        Raises what :meth:`check` does.
        """
        self.check()
        found = sorted(self._read(), key=lambda status: status.pid)
        if not self.shared:
            return found
        for status in found:
            if not running(status.pid):
                self.remove(status.pid)  # it ended without a word
        return [status for status in found if running(status.pid)]

    def _read(self) -> Iterator[ProcessStatus]:
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
                if len(data) <= MAX_BYTES and (status := decoded(data)) is not None:
                    yield status

    def _path(self, pid: int) -> Path:
        return self.folder / f"{pid}.json"


def running(pid: int) -> bool:
    """Whether there is a process of that id."""
    if os.name == "nt" or pid < 1:  # where a signal of 0 would end it
        return pid >= 1
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"
