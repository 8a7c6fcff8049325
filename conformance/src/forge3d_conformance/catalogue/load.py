"""From the TOML files beside this module to the catalogue."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import cattrs

from forge3d_conformance.catalogue.catalogue import Area, Catalogue
from forge3d_conformance.catalogue.clause import Clause
from forge3d_conformance.errors import CatalogueError

_converter = cattrs.Converter(forbid_extra_keys=True)


@cache
def load() -> Catalogue:
    """Return the catalogue that ships with this suite; read once.

    Raises :class:`CatalogueError` naming the file when its data is wrong.
    """
    head = _read("catalogue")
    clauses: list[Clause] = []
    try:
        areas = _converter.structure(head["areas"], tuple[Area, ...])
    except Exception as error:
        raise CatalogueError(f"catalogue.toml: {_why(error)}") from error
    for area in areas:
        try:
            clauses += _converter.structure(_read(area.name)["clauses"], list[Clause])
        except Exception as error:
            raise CatalogueError(f"{area.name}.toml: {_why(error)}") from error
    return Catalogue(head["version"], head["capabilities"], areas, tuple(clauses))


def _read(name: str) -> dict[str, Any]:
    text = files("forge3d_conformance.catalogue").joinpath(f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the table {error} is missing"
    return "; ".join(cattrs.transform_error(error))
