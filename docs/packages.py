"""Draw the packages of the core and what imports what, and count them.

``python docs/packages.py [--commit HASH] [PICTURE]`` reads ``forge3d_core`` of a commit (default: HEAD) and
writes ``docs/performance/packages.png``. A room is a module or package right under ``forge3d_core``. It
stands on the floor above the highest room that it imports. An arrow is drawn where no longer way leads there.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = "forge3d_core"
PICTURE = ROOT / "docs" / "performance" / "packages.png"

Graph = Mapping[str, frozenset[str]]


def sources(commit: str) -> dict[str, str]:
    """Return the text of each module of the core, by its dotted name."""
    command = ["git", "-C", str(ROOT), "archive", commit, CORE]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            if member.name.endswith(".py") and (file := tar.extractfile(member)) is not None:
                name = member.name[: -len(".py")].replace("/", ".").removesuffix(".__init__")
                found[name] = file.read().decode("utf-8")
    return found


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == CORE else ""


def imported(text: str) -> Iterator[str]:
    """Yield what a module imports, also later and for its types only."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = str(node.module)
            yield from (f"{package}.{alias.name}" if package == CORE else package for alias in node.names)


def graph_of(modules: Mapping[str, str]) -> Graph:
    """Return which rooms each room imports; the package's own re-exports are in none."""
    rooms: dict[str, set[str]] = {room: set() for room in map(room_of, modules) if room}
    for module, text in modules.items():
        if room := room_of(module):
            rooms[room] |= {room_of(name) for name in imported(text)} & rooms.keys() - {room}
    return {room: frozenset(targets) for room, targets in rooms.items()}


def groups(graph: Graph) -> dict[str, frozenset[str]]:
    """Return for each room those that it reaches and that reach it: others too where there is a circle."""
    reached: dict[str, set[str]] = {}
    for room in graph:
        seen, queue = {room}, [room]
        while queue:
            for target in graph[queue.pop()] - seen:
                seen.add(target)
                queue.append(target)
        reached[room] = seen
    return {
        room: frozenset(other for other in seen if room in reached[other]) for room, seen in reached.items()
    }


def floors(graph: Graph) -> dict[str, int]:
    """Return the floor of each room, from 0; rooms of a circle share one."""
    together = groups(graph)
    found: dict[frozenset[str], int] = {}

    def floor(group: frozenset[str]) -> int:
        if group not in found:
            below = {together[target] for room in group for target in graph[room]} - {group}
            found[group] = 1 + max((floor(other) for other in below), default=-1)
        return found[group]

    return {room: floor(together[room]) for room in graph}


def direct(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the arrows that no longer way stands for."""
    height = floors(graph)
    for room, targets in graph.items():
        for target in targets:
            queue, seen = (
                [each for each in targets if each != target and height[each] > height[target]],
                set(),
            )
            while queue:
                each = queue.pop()
                seen.add(each)
                queue.extend(graph[each] - seen)
            if target not in seen:
                yield room, target


def draw(graph: Graph, path: Path, title: str) -> None:
    from matplotlib.figure import Figure

    height = floors(graph)
    rows = [
        sorted(room for room in graph if height[room] == level) for level in range(max(height.values()) + 1)
    ]
    place: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):  # rooms stand near what they import
        row.sort(key=lambda room: statistics.mean([place[t][0] for t in graph[room] if t in place] or [0.0]))
        for number, room in enumerate(row):
            place[room] = ((number - (len(row) - 1) / 2) * 1.75, level * 1.0)
    width = max(len(row) for row in rows)
    figure = Figure(figsize=(max(8.0, 1.35 * width), 0.72 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.axis("off")
    for room, target in direct(graph):
        (x, y), (left, below) = place[room], place[target]
        arrow = {"arrowstyle": "-|>", "color": "#8a8f98", "lw": 0.8, "shrinkA": 9, "shrinkB": 9}
        if y <= below:
            arrow["color"] = "#c0392b"
        axes.annotate("", (left, below), (x, y), arrowprops=arrow, zorder=1)
    for room, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.35", "facecolor": "#eaf2fb", "edgecolor": "#0b5cad"}
        axes.text(x, y, room, ha="center", va="center", fontsize=9, bbox=box, zorder=2)
    axes.set_xlim(-(width + 0.6) * 0.88, (width + 0.6) * 0.88)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", nargs="?", type=Path, default=PICTURE)
    parser.add_argument("--commit", default="HEAD")
    given = parser.parse_args()
    modules = sources(given.commit)
    graph = graph_of(modules)
    lines = [len(text.splitlines()) for text in modules.values()]
    circles = {group for group in groups(graph).values() if len(group) > 1}
    told = (
        f"{len(graph)} rooms on {max(floors(graph).values()) + 1} floors, "
        f"{sum(map(len, graph.values()))} arrows, {len(circles)} circles; {len(modules)} modules, "
        f"{sum(lines)} lines, median {statistics.median(lines):.0f}, longest {max(lines)}"
    )
    print(f"{given.commit}: {told}")
    draw(graph, given.picture, f"forge3d_core: {told.partition(';')[0]}")


if __name__ == "__main__":
    main()
