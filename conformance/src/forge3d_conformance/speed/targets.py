"""The rows of the tables: what of ours is measured beside what, and what ratio is wanted."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

import attrs
import cattrs

Better = Literal["higher", "lower"]

BACKENDS = ("host", "wgpu", "cuda")
"""The backends that there are rows for, each in ``rows/<backend>.toml``."""


@attrs.frozen
class Row:
    """One ratio. ``raw`` is ``peer/operation``; ``size`` is bytes, 0 where none are moved.

    ``at_most`` bounds a cost, our time over the raw one; ``at_least`` bounds a speed, the raw time over
    ours. A row with neither is context, told as a speed, or with ``cost`` as a cost. ``adapters``: only on
    devices of these kinds.
    """

    clause: str
    ours: str
    raw: str
    size: int = 0
    at_most: float | None = None
    at_least: float | None = None
    cost: bool = False
    adapters: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.at_most is not None and self.at_least is not None:
            raise ValueError(f"{self.ours} beside {self.raw} has two targets")

    @property
    def peer(self) -> str:
        return self.raw.partition("/")[0]

    @property
    def operation(self) -> str:
        return self.raw.partition("/")[2]

    @property
    def target(self) -> float | None:
        return self.at_least if self.at_most is None else self.at_most

    @property
    def better(self) -> Better:
        return "lower" if self.cost or self.at_most is not None else "higher"


@cache
def load_rows(backend: str) -> tuple[Row, ...]:
    """Return the rows of a backend; none for one that there is no table for."""
    if backend not in BACKENDS:
        return ()
    text = files("forge3d_conformance.speed").joinpath(f"rows/{backend}.toml").read_text("utf-8")
    converter = cattrs.Converter(forbid_extra_keys=True)
    return converter.structure(tomllib.loads(text)["rows"], tuple[Row, ...])
