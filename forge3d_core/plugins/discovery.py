"""What is installed, read from the metadata of distributions; nothing is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import attrs

from forge3d_core.errors import UsageError
from forge3d_core.hookspecs import ENTRY_POINT_GROUP
from forge3d_core.plugins.spec import BackendSpec, normalise

OWN_PACKAGE = "forge3d_core"


@attrs.frozen
class Candidate:
    """One entry point of one distribution (or one object that the program registered), not yet loaded.

    ``problem``: what is wrong with it as far as metadata shows. ``fetch`` returns the plugin object;
    it is what runs the plugin's code.
    """

    name: str
    distribution: str
    version: str
    target: str  # "package.module:attribute"
    requires: tuple[str, ...] = ()
    problem: str | None = None
    fetch: Callable[[], Any] = attrs.field(default=lambda: None, eq=False, repr=False)

    @property
    def package(self) -> str:
        """The top-level package that the entry point lives in."""
        return self.target.partition(":")[0].partition(".")[0].strip()

    @property
    def ours(self) -> bool:
        return self.package == OWN_PACKAGE

    @property
    def identities(self) -> frozenset[str]:
        """The names by which an allow or a deny list may call it."""
        return frozenset({self.name, normalise(self.distribution)})

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


def discover(group: str = ENTRY_POINT_GROUP) -> tuple[Candidate, ...]:
    """Return every entry point of ``group`` in every installed distribution, by name.

    A distribution whose metadata cannot be read becomes a candidate with a ``problem`` and hides no
    other. Where the path holds a distribution twice, the first shadows the second, as for imports.
    """
    found: dict[str, list[Candidate]] = {}
    for distribution in metadata.distributions():
        try:
            text = distribution.read_text("entry_points.txt")
        except (OSError, UnicodeError):
            continue
        if text and group in text:
            candidates = list(_candidates(distribution, group))
            if candidates:
                found.setdefault(normalise(candidates[0].distribution), candidates)
    return tuple(sorted((c for cs in found.values() for c in cs), key=lambda c: (c.name, c.distribution)))


def _candidates(distribution: metadata.Distribution, group: str) -> Iterator[Candidate]:
    try:
        title, version = distribution.metadata["Name"] or "", distribution.version or ""
        requires = tuple(distribution.requires or ())
    except Exception:  # any damage at all; the folder's name still says whose it is
        title, version, requires = "", "", ()
    title = (
        title or str(getattr(getattr(distribution, "_path", None), "stem", "")) or "a nameless distribution"
    )
    try:
        points = {p for p in distribution.entry_points if p.group == group}
    except Exception as error:  # importlib.metadata raises TypeError, ValueError and more for bad lines
        yield Candidate(
            normalise(title), title, version, "", problem=f"its entry_points.txt is damaged: {error}"
        )
        return
    for point in points:
        name, problem = normalise(point.name), None
        try:
            if BackendSpec.parse(point.name) != BackendSpec(name):
                problem = f"{point.name!r} is not a name: it has a selector in it"
            elif BackendSpec(name).automatic:
                problem = f"{point.name!r} is reserved for automatic choice"
        except UsageError as error:
            problem = str(error)
        yield Candidate(name, title, version, point.value, requires, problem, point.load)
