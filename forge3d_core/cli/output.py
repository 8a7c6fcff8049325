"""Results on standard output, and nothing else there, whatever plugins print."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console


@contextmanager
def results() -> Iterator[Console]:
    """Yield a console on standard output; anything else written there meanwhile goes to standard error.

    That holds for ``print``, for the file descriptor, and so for native code and child processes.
    """
    stdout = sys.stdout
    stdout.flush()
    if not _is_descriptor(stdout, 1):
        sys.stdout = sys.stderr
        try:
            yield Console(file=stdout, highlight=False)
        finally:
            sys.stdout = stdout
        return
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(saved, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False) as stream:
            yield Console(file=stream, highlight=False)
        stdout.flush()  # what was printed meanwhile still goes the other way
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (io.UnsupportedOperation, OSError, AttributeError):
        return False


def write_json(console: Console, data: Any) -> None:
    """Write ``data`` as indented JSON, never wrapped or coloured."""
    console.file.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def progress() -> Console:
    """Return the console for what is under way: standard error."""
    return Console(stderr=True, highlight=False)
