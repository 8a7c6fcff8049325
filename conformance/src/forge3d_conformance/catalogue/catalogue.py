"""The catalogue: every clause, looked up by id, glob, area and level."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property

import attrs

from forge3d_conformance.catalogue.clause import Clause, Level, RunLevel, Status
from forge3d_conformance.errors import CatalogueError, UnknownClause


@attrs.frozen
class Area:
    """A part of the contract; its name begins the ids of its clauses."""

    name: str
    title: str
    about: str


@attrs.frozen(slots=False)
class Catalogue:
    """Every clause, in the order of the areas and of their files. Immutable, hence thread-safe."""

    version: str
    capabilities: Mapping[str, str]
    areas: tuple[Area, ...]
    clauses: tuple[Clause, ...]

    def __attrs_post_init__(self) -> None:
        areas = {area.name for area in self.areas}
        seen: set[str] = set()
        for clause in self.clauses:
            if clause.id in seen:
                raise CatalogueError(f"clause {clause.id} stands twice in the catalogue; ids are unique")
            if clause.area not in areas:
                raise CatalogueError(f"clause {clause.id} belongs to no area of {sorted(areas)}")
            for name in set(clause.requires) - self.capabilities.keys():
                raise CatalogueError(
                    f"clause {clause.id} requires {name!r}; the capabilities are {sorted(self.capabilities)}"
                )
            seen.add(clause.id)

    def __len__(self) -> int:
        return len(self.clauses)

    def __iter__(self) -> Iterator[Clause]:
        return iter(self.clauses)

    def __contains__(self, id: object) -> bool:
        return id in self._by_id

    def __getitem__(self, id: str) -> Clause:
        """Return the clause ``id``; raises :class:`UnknownClause`, naming the nearest."""
        try:
            return self._by_id[id]
        except KeyError:
            near = difflib.get_close_matches(id, self._by_id, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; see docs/guarantees.md"
            raise UnknownClause(f"no clause is called {id!r}{hint}") from None

    def select(
        self,
        selection: str = "*",
        *,
        area: str | None = None,
        level: Level | None = None,
        status: Status | None = None,
    ) -> tuple[Clause, ...]:
        """Return the clauses that match everything given, in order; possibly none.

        ``selection`` is a glob, or several with commas between: a clause matches one of them.
        """
        globs = selection.split(",")
        return tuple(
            clause
            for clause in self.clauses
            if any(fnmatch.fnmatchcase(clause.id, glob) for glob in globs)
            and area in (None, clause.area)
            and level in (None, clause.level)
            and status in (None, clause.status)
        )

    def unspoken(self, level: RunLevel) -> Iterator[str]:
        """Yield what is active and a run at this level says nothing of: clauses, or an area and how many."""
        beyond: dict[str, list[str]] = {}
        for clause in self:
            if clause.active and clause.level == "extended" and not clause.binding_at(level):
                beyond.setdefault(clause.area, []).append(clause.id)
        for area, ids in beyond.items():
            yield from ids if len(ids) <= 3 else (f"{area} ({len(ids)} clauses)",)

    def binding(self, level: RunLevel, selection: str = "*") -> tuple[Clause, ...]:
        """Return the clauses that a run of this selection at ``level`` must test."""
        return tuple(clause for clause in self.select(selection) if clause.binding_at(level))

    @cached_property
    def digest(self) -> str:
        """What a report must agree on with its reader: ids, levels, states and needs, not wording."""
        rules = [[c.id, c.level, c.status, sorted(c.requires)] for c in self.clauses]
        return hashlib.sha256(json.dumps(rules, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def _by_id(self) -> dict[str, Clause]:
        return {clause.id: clause for clause in self.clauses}
