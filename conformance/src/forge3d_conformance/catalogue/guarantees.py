"""The catalogue as a document: ``docs/guarantees.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from forge3d_conformance.catalogue.catalogue import Area, Catalogue
from forge3d_conformance.catalogue.clause import Clause

_HEAD = """\
<!-- Made from the catalogue by `python -m forge3d_conformance.catalogue`; edit the TOML there. -->

# What a forge3d backend guarantees

Catalogue {version}: {total} clauses, of which {core} are core, {extended} extended,
{perf} perf and {planned} planned.

*Core* is the correctness that every backend must have, and what a run tests by itself. *Extended* is what
only `--level full` tests: what not every device has or every program needs, and what the core does rather
than the backend, which is how plugins are found and chosen. *Perf* is speed, as ratios to the raw API, which
only `--level perf` measures, on a machine that has nothing else to do. *Planned* clauses speak of
what is not built yet: reports count them apart and never as passed. A clause that requires a capability can
be tested only where the device or the machine has it; for want of nothing else may a backend call a clause
unsupported.

Run the suite with `forge3d conformance`, one clause with `--clause ring.wraps`.
"""


def render(catalogue: Catalogue) -> str:
    """Return the document, with a newline at its end; the same bytes for the same catalogue."""
    active = catalogue.select(status="active")
    head = _HEAD.format(
        version=catalogue.version,
        total=len(catalogue),
        core=sum(clause.level == "core" for clause in active),
        extended=sum(clause.level == "extended" for clause in active),
        perf=sum(clause.level == "perf" for clause in active),
        planned=len(catalogue) - len(active),
    )
    return "\n".join([head, *_overview(catalogue), *_chapters(catalogue), *_capabilities(catalogue)])


def _overview(catalogue: Catalogue) -> Iterator[str]:
    yield "| area | core | extended | perf | planned |\n|---|--:|--:|--:|--:|"
    for area in catalogue.areas:
        clauses = catalogue.select(area=area.name)
        found = Counter(clause.level if clause.active else "planned" for clause in clauses)
        counts = " | ".join(str(found[name]) for name in ("core", "extended", "perf", "planned"))
        yield f"| [{area.title}](#{area.title.lower().replace(' ', '-')}) | {counts} |"
    yield ""


def _chapters(catalogue: Catalogue) -> Iterator[str]:
    for area in catalogue.areas:
        yield from _chapter(area, catalogue.select(area=area.name))


def _chapter(area: Area, clauses: tuple[Clause, ...]) -> Iterator[str]:
    yield f"## {area.title}\n\n{area.about}\n"
    for clause in clauses:
        level = clause.level if clause.active else f"{clause.level}, planned"
        yield f"### `{clause.id}` · {level}\n\n{clause.text}\n"
        yield f"- **Source:** {clause.source}"
        yield f"- **Tested:** {clause.how}"
        if clause.requires:
            yield f"- **Requires:** {', '.join(f'`{name}`' for name in clause.requires)}"
        yield ""


def _capabilities(catalogue: Catalogue) -> Iterator[str]:
    yield "## Capabilities\n"
    for name, meaning in catalogue.capabilities.items():
        yield f"- `{name}`: {meaning}"
    yield ""
