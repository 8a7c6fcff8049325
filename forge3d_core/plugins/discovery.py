"""What is installed, read from the metadata of distributions; nothing is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs

from forge3d_core.errors import UsageError
from forge3d_core.hookspecs import ENTRY_POINT_GROUP
from forge3d_core.plugins.own import BACKENDS, CORE, CORE_PACKAGE, HOST_TARGET, Owner
from forge3d_core.plugins.spec import BackendSpec, is_name, normalise
from forge3d_core.printable import described, escaped, shown

OWN_PACKAGE = CORE_PACKAGE
MAX_ENTRY_POINTS = 100
"""Entry points of one group that one distribution can have."""

MAX_METADATA_BYTES = 4 << 20
_NAME_LENGTH = 100
_VERSION = re.compile(r"[A-Za-z0-9.!+_-]{0,60}")


@attrs.frozen
class Candidate:
    """One entry point of one distribution (or one object that the program registered), not yet loaded.

    ``problem``: what is wrong with it as far as metadata shows. ``fetch`` returns the plugin object;
    it is what runs the plugin's code. ``location``: the folder of its metadata. ``also``: further names
    by which lists may call it. ``shadows``: installations of the same distribution that this one hides.
    All text is printable.
    """

    name: str
    distribution: str
    version: str
    target: str  # "package.module:attribute"
    requires: tuple[str, ...] = ()
    problem: str | None = None
    fetch: Callable[[], Any] = attrs.field(default=lambda: None, eq=False, repr=False)
    location: str = ""
    also: frozenset[str] = frozenset()
    shadows: tuple[str, ...] = attrs.field(default=(), eq=False)

    @property
    def package(self) -> str:
        """The top-level package that the entry point lives in."""
        return self.target.partition(":")[0].partition(".")[0].strip()

    @property
    def ours(self) -> bool:
        """Whether it is the core's own code."""
        return self.package == OWN_PACKAGE

    @property
    def identities(self) -> frozenset[str]:
        """The names by which an allow or a deny list may call it."""
        return frozenset({self.name, normalise(self.distribution)}) | self.also

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


def discover(group: str = ENTRY_POINT_GROUP, owners: Mapping[str, Owner] = BACKENDS) -> tuple[Candidate, ...]:
    """Return every entry point of ``group`` in every installed distribution, by name.

    A distribution whose metadata cannot be read becomes a candidate with a ``problem`` and hides no
    other. A name in ``owners`` belongs to its owner: what offers it otherwise has a ``problem``, too, and
    the core's own backend is there whatever is installed. Where a distribution is installed twice, the
    first on the path is taken, as for imports (in one folder, the first by the folder's name), and
    ``shadows`` the rest; two of one name whose code differs in package are both candidates.
    """
    found = [c for distribution in _distributions() for c in _offered(distribution, group, owners)]
    if group == ENTRY_POINT_GROUP and not any(c.name == "host" and c.problem is None for c in found):
        found.append(_host())
    found.sort(key=lambda c: (c.name, normalise(c.distribution), c.package))  # stable: the path's order holds
    identity = groupby(found, key=lambda c: (c.name, normalise(c.distribution), c.package))
    return tuple(_first(list(same)) for _, same in identity)


def _first(same: list[Candidate]) -> Candidate:
    sound = next((c for c in same if c.problem is None), same[0])
    rest = tuple(f"{c} in {c.location}" for c in same if c.location != sound.location)
    return attrs.evolve(sound, shadows=rest)


def _host() -> Candidate:
    point = metadata.EntryPoint("host", HOST_TARGET, ENTRY_POINT_GROUP)
    try:
        version = metadata.version(CORE)
    except Exception:  # damaged, or run from a folder without metadata
        version = ""
    return Candidate("host", CORE, version, HOST_TARGET, fetch=point.load)


def _distributions() -> Iterator[metadata.Distribution]:
    """Yield each distribution once, path by path and in one folder by name, whatever the disk's order."""
    folders: dict[str, dict[str, metadata.Distribution]] = {}
    parents: dict[str, str] = {}  # the path may have a folder under several names
    for distribution in metadata.distributions():
        parent, name = os.path.split(str(getattr(distribution, "_path", id(distribution))))
        real = parents.get(parent) or parents.setdefault(parent, os.path.realpath(parent))
        folders.setdefault(real, {}).setdefault(name, distribution)
    for named in folders.values():
        yield from (named[name] for name in sorted(named))


def _offered(
    distribution: metadata.Distribution, group: str, owners: Mapping[str, Owner]
) -> Iterable[Candidate]:
    try:
        text = distribution.read_text("entry_points.txt")
    except (OSError, UnicodeError):
        return ()
    return _candidates(distribution, text, group, owners) if text and group in text else ()


def _candidates(
    distribution: metadata.Distribution, text: str, group: str, owners: Mapping[str, Owner]
) -> Iterator[Candidate]:
    title, version, requires, problem = _described(distribution)
    location = escaped(os.path.abspath(str(getattr(distribution, "_path", ""))))
    base = Candidate("", title, version, "", requires, problem, location=location)
    if not is_name(title):
        base = attrs.evolve(base, problem="its METADATA holds no name that pip could call it by")
    try:
        if len(text) > MAX_METADATA_BYTES:
            raise ValueError(f"it has {len(text)} characters")
        points = list(dict.fromkeys(p for p in distribution.entry_points if p.group == group))
    except Exception as error:  # importlib.metadata raises TypeError, ValueError and more for bad lines
        problem = f"its entry_points.txt is damaged: {described(error)}"
        yield attrs.evolve(base, name=normalise(title), problem=problem)
        return
    if len(points) > MAX_ENTRY_POINTS:
        problem = f"it has {len(points)} entry points in {group}, more than {MAX_ENTRY_POINTS}"
        yield attrs.evolve(base, name=normalise(title), problem=problem)
        return
    for point in points:
        name = escaped(normalise(point.name), _NAME_LENGTH)
        named = attrs.evolve(base, name=name, target=escaped(point.value, 500), fetch=point.load)
        yield attrs.evolve(named, problem=base.problem or _problem(point.name, named, owners))


def _described(distribution: metadata.Distribution) -> tuple[str, str, tuple[str, ...], str | None]:
    """Return name, version, requirements, and what is wrong with them."""
    folder = getattr(distribution, "_path", None)
    stem = str(getattr(folder, "stem", "")) or "a nameless distribution"
    try:
        size = (folder / "METADATA").stat().st_size if isinstance(folder, Path) else 0
    except OSError:
        size = 0
    if size > MAX_METADATA_BYTES:
        return escaped(stem, _NAME_LENGTH), "", (), f"its METADATA has {size} bytes"
    try:
        title, version = distribution.metadata["Name"] or stem, distribution.version or ""
        requires = tuple(escaped(text, 500) for text in (distribution.requires or ()))
    except Exception:  # any damage at all; the folder's name still says whose it is
        title, version, requires = stem, "", ()
    version = version if _VERSION.fullmatch(version) else ""
    return escaped(title.strip(), _NAME_LENGTH), version, requires, None


def _problem(raw: str, candidate: Candidate, owners: Mapping[str, Owner]) -> str | None:
    try:
        if BackendSpec.parse(raw) != BackendSpec(candidate.name):
            return f"{shown(raw)} is not a name: it has a selector in it"
        if BackendSpec(candidate.name).automatic:
            return f"{shown(raw)} is reserved for automatic choice"
    except UsageError as error:
        return str(error)
    owner = owners.get(candidate.name)
    whose = Owner(normalise(candidate.distribution), candidate.package)
    if owner is not None and owner != whose:
        return (
            f"{candidate.name!r} is the name that {owner.distribution} ships ({owner.package}), and this is "
            f"{candidate.package}; it must offer another name"
        )
    return None
