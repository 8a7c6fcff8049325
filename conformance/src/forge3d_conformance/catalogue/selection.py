"""Why a selection leaves a run nothing to test, said before it begins."""

from __future__ import annotations

from forge3d_conformance.catalogue.catalogue import Catalogue
from forge3d_conformance.catalogue.clause import BINDING, RunLevel
from forge3d_conformance.errors import EmptySelection, UnknownClause


def refuse_nothing(catalogue: Catalogue, selection: str, level: RunLevel) -> None:
    """Raise :class:`EmptySelection`, saying what to ask for instead, where a glob selects nothing to test."""
    for glob in selection.split(","):
        _refuse_nothing(catalogue, glob, level)


def _refuse_nothing(catalogue: Catalogue, glob: str, level: RunLevel) -> None:
    if catalogue.binding(level, glob):
        return
    chosen = catalogue.select(glob)
    if not chosen:
        try:
            catalogue[glob]
        except UnknownClause as error:
            raise EmptySelection(f"--clause {glob!r} matches no clause of the catalogue: {error}") from None
    levels = {clause.level for clause in chosen if clause.active}
    if levels:
        names = " and ".join(sorted(levels))
        wanted = " or ".join(f"--level {name}" for name in BINDING if levels & set(BINDING[name]))
        raise EmptySelection(f"--clause {glob!r} selects {names} clauses only; test them with {wanted}")
    raise EmptySelection(
        f"--clause {glob!r} selects planned clauses only, which nothing tests yet; see docs/guarantees.md"
    )
