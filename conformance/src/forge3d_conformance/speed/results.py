"""What a measurement found, as values that go to JSON and back."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import cattrs

from forge3d_conformance.errors import ReportError
from forge3d_conformance.report import Aim, PerfResult, Platform
from forge3d_conformance.speed.calls import CallCount

SCHEMA = "forge3d-bench/1"


@attrs.frozen
class Measured:
    """One row of the table. ``size``: bytes that one operation moves; ``target``: None for context."""

    clause: str
    ours: str
    raw: str
    size: int
    better: str
    ratio: float
    low: float
    high: float
    target: float | None
    ours_seconds: float
    raw_seconds: float
    rounds: int

    @property
    def judged(self) -> PerfResult:
        """This row as a report holds it; only of one that has a target."""
        assert self.target is not None
        return PerfResult(
            clause=self.clause,
            case=f"{self.ours}, {self.size} bytes" if self.size else self.ours,
            baseline=self.raw,
            ratio=self.ratio,
            low=self.low,
            high=self.high,
            target=self.target,
            ours_seconds=self.ours_seconds,
            raw_seconds=self.raw_seconds,
            samples=self.rounds,
            better="lower" if self.better == "lower" else "higher",
        )

    @property
    def aim(self) -> Aim | None:
        """Met, missed or inconclusive, judged by the interval; None for context."""
        return None if self.target is None else self.judged.aim

    @property
    def key(self) -> tuple[str, str, int]:
        return self.ours, self.raw, self.size


@attrs.frozen
class Missing:
    """A row that could not be taken, and why."""

    ours: str
    raw: str
    size: int
    reason: str


@attrs.frozen
class SpeedReport:
    """All of one run. Times are context; ratios are what travels from machine to machine."""

    backend: str
    adapter: str
    driver: str
    version: str
    platform: Platform
    seconds_per_row: float
    rows: tuple[Measured, ...]
    missing: tuple[Missing, ...]
    calls: tuple[CallCount, ...]
    schema: str = SCHEMA


_converter = cattrs.Converter(forbid_extra_keys=True)


def dump(report: SpeedReport) -> str:
    """Return a report as JSON."""
    return json.dumps(_converter.unstructure(report), indent=1, sort_keys=True) + "\n"


def read(path: Path) -> SpeedReport:
    """Return the report in ``path``; raises :class:`ReportError` for what is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ReportError(f"{path} is no result of `forge3d bench` (schema {SCHEMA!r})")
        return _converter.structure(document, SpeedReport)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, cattrs.BaseValidationError, RecursionError) as error:
        if isinstance(error, ReportError):
            raise
        raise ReportError(f"{path} is no result of `forge3d bench`: {error}") from error
