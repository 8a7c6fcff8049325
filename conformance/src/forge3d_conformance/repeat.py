"""A failure as a script that stands alone: it runs the one test, on the one example that was found."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import attrs
import hypothesis
import pytest

from forge3d_conformance.catalogue import RunLevel
from forge3d_conformance.errors import ReportError
from forge3d_conformance.record import Record

FOLDER = "repeat"

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
    """Take away what an earlier run left."""
    for script in (directory / FOLDER).glob("*.py"):
        script.unlink()


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
        (directory / FOLDER).mkdir(parents=True, exist_ok=True)
        (directory / FOLDER / f"{record.clause}.{record.test.partition('[')[0]}.py").write_text(text, "utf-8")
