"""A failure as a script that stands alone: it runs the one test, on the one example that was found."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import textwrap
from collections.abc import Iterable
from importlib.resources import files
from itertools import count
from pathlib import Path

import attrs
import hypothesis
import pytest

from forge3d_conformance.catalogue import RunLevel
from forge3d_conformance.errors import ReportError
from forge3d_conformance.record import Record
from forge3d_conformance.report.store import SCRIPTS

MAX_BYTES = 1 << 20
MARK = "# written by forge3d conformance, and taken away by the next run unless it is changed: "

_SCRIPT = '''\
"""{summary}
"""

from forge3d_conformance.repeat import repeat

repeat(
    {test!r},
    clause={clause!r},
    backend={backend!r},
    level={level!r},
    seed={seed!r},
    example={example!r},
)
'''


@attrs.frozen
class Example:
    """What hypothesis needs to run one example again; written ``version:blob``."""

    version: str
    blob: str

    @classmethod
    def parse(cls, text: str) -> Example:
        """Return the example that ``text`` stands for; raises :class:`ReportError`."""
        version, _, blob = text.partition(":")
        if version != hypothesis.__version__:
            raise ReportError(
                f"the example was found by hypothesis {version or '?'}, this is {hypothesis.__version__}; "
                f"pip install hypothesis=={version or 'VERSION'}, or search again with the seed alone"
            )
        return cls(version, blob)

    @classmethod
    def found_in(cls, notes: Iterable[str]) -> Example | None:
        """Return the example of which hypothesis' notes on a failure speak."""
        for note in notes:
            if match := re.search(r"@reproduce_failure\('([^']+)', b'([^']+)'\)", note):
                return cls(match[1], match[2])
        return None

    def __str__(self) -> str:
        return f"{self.version}:{self.blob}"

    def impose(self, test: object) -> None:
        """Make a property, or the factory of a state machine, run this example and no other."""
        hypothesis.reproduce_failure(self.version, self.blob.encode())(test)  # type: ignore[type-var]


@attrs.define
class Seen:
    """A pytest plugin that notes how the test ended: what a whole clause is worth is not asked here."""

    passed: bool = False
    failed: bool = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed |= report.passed and report.when == "call"
        self.failed |= report.failed


def repeat(
    test: str, *, clause: str, backend: str, level: RunLevel = "core", seed: int = 0, example: str = ""
) -> None:
    """Run one test of one clause and end the program: with 0 where it passes, else with pytest's status."""
    arguments = ["--pyargs", "forge3d_conformance.clauses", "-p", "no:cacheprovider"]
    arguments += ["-c", str(files("forge3d_conformance") / "suite.ini"), "-k", test.partition("[")[0]]
    arguments += ["-vv", "-s", "--backend", backend, "--clause", clause, "--level", level]
    arguments += ["--seed", str(seed), *(["--example", example] if example else [])]
    seen = Seen()
    status = pytest.main(arguments, [seen])
    raise SystemExit(0 if seen.passed and not seen.failed else status)


def clear_scripts(directory: Path) -> None:
    """Take away the scripts that an earlier run wrote, as it wrote them; what is edited or not ours stays."""
    for script in (directory / SCRIPTS).glob("*.py"):
        if _untouched(script):
            script.unlink()


def _untouched(script: Path) -> bool:
    """Whether the file is one that :func:`write_scripts` wrote and nothing has changed since."""
    found = script.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
        return False
    text, _, mark = script.read_bytes().rpartition(MARK.encode())
    return mark.strip() == _digest(text).encode()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _free(folder: Path, name: str) -> Path:
    """Return a path for a script of that name that overwrites nothing but one of ours."""
    paths = (folder / (f"{name}.py" if n == 1 else f"{name}.{n}.py") for n in count(1))
    return next(path for path in paths if not os.path.lexists(path) or _untouched(path))


def write_scripts(
    directory: Path, records: Iterable[Record], *, backend: str, level: RunLevel, seed: int
) -> None:
    """Write a script for each test that failed, into the folder ``repeat``."""
    for record in records:
        summary = f"{record.clause} failed on {backend}: {record.message}"
        if record.trace:
            summary += "\n\n" + textwrap.indent(record.trace, "    ")
        text = _SCRIPT.format(
            summary=summary.replace("\\", "\\\\").replace('"', '\\"'),
            test=record.test,
            clause=record.clause,
            backend=backend,
            level=level,
            seed=seed,
            example=record.example or "",
        )
        folder, data = directory / SCRIPTS, text.encode("utf-8", "backslashreplace")
        folder.mkdir(parents=True, exist_ok=True)
        path = _free(folder, f"{record.clause}.{record.test.partition('[')[0]}")
        path.write_bytes(data + f"{MARK}{_digest(data)}\n".encode())
