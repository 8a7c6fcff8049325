"""The rows of the table: what of ours is measured beside what, and what ratio is wanted."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Literal

import attrs
import cattrs

Better = Literal["higher", "lower"]


@attrs.frozen
class Row:
    """One ratio. ``raw`` is ``peer/operation``; ``size`` is bytes, 0 where none are moved."""

    clause: str
    backend: str
    ours: str
    raw: str
    better: Better
    size: int = 0
    target: float | None = None
    adapters: tuple[str, ...] = ()

    @property
    def peer(self) -> str:
        return self.raw.partition("/")[0]

    @property
    def operation(self) -> str:
        return self.raw.partition("/")[2]

    def applies(self, backend: str, kind: str) -> bool:
        return self.backend == backend and (not self.adapters or kind in self.adapters)


def load_rows() -> tuple[Row, ...]:
    """Return the rows of ``targets.toml``."""
    text = files("forge3d_conformance.speed").joinpath("targets.toml").read_text("utf-8")
    converter = cattrs.Converter(forbid_extra_keys=True)
    return converter.structure(tomllib.loads(text)["rows"], tuple[Row, ...])
