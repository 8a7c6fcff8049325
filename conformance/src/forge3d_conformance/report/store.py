"""Reports as files: written whole or not at all, and never a stale pass beside a new run."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from forge3d_conformance.catalogue import Catalogue
from forge3d_conformance.errors import ReportError
from forge3d_conformance.report.canonical import dump, parse
from forge3d_conformance.report.html import render
from forge3d_conformance.report.junit import junit
from forge3d_conformance.report.report import Report
from forge3d_conformance.report.states import Phase

MAX_BYTES = 32 << 20
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

JSON, JUNIT, HTML = "report.json", "junit.xml", "report.html"

SCRIPTS = "repeat"
"""The folder beside them that has a script for each failure."""


def publish(report: Report, catalogue: Catalogue, directory: Path) -> Path:
    """Write ``report.json``, ``junit.xml`` and ``report.html``; return the path of the first.

    Each file is replaced whole. A report that is still running first takes away what an earlier run
    left; a finished one is written with the JSON last. Raises :class:`ReportError` when the directory
    cannot be written.
    """
    forms = {HTML: render(report, catalogue), JUNIT: junit(report, catalogue), JSON: dump(report)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if report.phase is Phase.RUNNING:
            for name in forms:
                (directory / name).unlink(missing_ok=True)
        for name, data in forms.items():
            replace(directory / name, data)
    except OSError as error:
        raise ReportError(
            f"the report could not be written to {directory}: {error.strerror}; name a directory that can be "
            "written"
        ) from error
    return directory / JSON


def read(path: Path) -> Report:
    """Return the report in ``path``, or in ``report.json`` when it is a directory."""
    path = _file(path)
    data = contents(path)
    try:
        return parse(data)
    except ReportError as error:
        raise ReportError(f"{path}: {error}") from error


def contents(path: Path) -> bytes:
    """Return the bytes of the report in ``path``, whatever they are, to 32 MiB.

    Raises :class:`ReportError` for what cannot be read and is no regular file.
    """
    path = _file(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would block, and a device has no end
            raise ReportError(f"{path}: is no regular file")
        with open(os.open(path, os.O_RDONLY | _FLAGS), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise ReportError(f"{path}: {error}") from error
    if len(data) > MAX_BYTES:
        raise ReportError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, which no report is")
    return data


def _file(path: Path) -> Path:
    return path / JSON if path.is_dir() else path


def replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one whole or the new one whole."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
