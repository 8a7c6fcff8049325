"""TOML files that remember on which line each key stands."""

from __future__ import annotations

import re
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from forge3d_core.config.environment import ConfigWarning
from forge3d_core.config.files import read_file
from forge3d_core.config.settings import Settings
from forge3d_core.config.source import Layer, Origin, Source
from forge3d_core.errors import ConfigError
from forge3d_core.printable import escaped, shown

FILE = "forge3d.toml"
PYPROJECT = "pyproject.toml"
PYPROJECT_TABLE = "tool.forge3d"

_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:\s*\.\s*{_PART})*"
MAX_PARTS = 32
_DEEP_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{MAX_PARTS}}}")
_HEADER = re.compile(rf"\s*\[\[?\s*({_KEY})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEY})\s*=")


@attrs.frozen
class TomlFile:
    """A parsed file and, by dotted key, the line that sets it."""

    path: Path
    data: Mapping[str, Any]
    lines: Mapping[str, tuple[int, str]]

    @classmethod
    def read(cls, path: Path, mentioning: str = "") -> TomlFile | None:
        """Return the file, or None when there is none or it does not mention a table.

        Raises :class:`ConfigError` for one that cannot be read or is not TOML, with the position.
        """
        found = read_file(path, mentioning)
        if found is None:
            return None
        text, suspect = found
        place = escaped(str(path))
        if deep := _DEEP_KEY.search(text):
            line = text.count("\n", 0, deep.start()) + 1
            raise ConfigError(f"{place}:{line}: a key of more than {MAX_PARTS} parts")
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{place}: not valid TOML: {escaped(str(error))}") from error
        except RecursionError as error:
            line = _line(text, lambda line: line.count("[") + line.count("{"))
            raise ConfigError(f"{place}:{line}: nested too deeply") from error
        except ValueError as error:  # a number of more digits than int() takes
            line = _line(text, lambda line: max(map(len, re.findall(r"\d+", line)), default=0))
            raise ConfigError(f"{place}:{line}: not valid TOML: a number of too many digits") from error
        if suspect:
            warnings.warn(
                f"{place} {suspect}, and is followed all the same; make it yours (chown, chmod go-w) or "
                "move it",
                ConfigWarning,
                stacklevel=5,
            )
        return cls(path, data, dict(reversed(list(_keys(text)))))

    def table(self, name: str) -> Mapping[str, Any] | None:
        """Return the table of that dotted name, or None."""
        table: Any = self.data
        for part in name.split(".") if name else ():
            table = table.get(part) if isinstance(table, Mapping) else None
        if table is not None and not isinstance(table, Mapping):
            place = escaped(str(self.locate("project", name)))
            raise ConfigError(f"{place}: {name} is a table of keys, not {shown(table)}")
        return table

    def locate(self, origin: Origin, key: str) -> Source:
        """Return the line that sets ``key``, or the nearest that holds it (an inline table, say)."""
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            if found := self.lines.get(".".join(parts[:end])):
                return Source(origin, escaped(found[1], 300), self.path, found[0])
        return Source(origin, "", self.path)


def file_layer(origin: Origin, path: Path, table: str = "") -> Layer | None:
    """Return the layer that ``table`` of the file makes, or None where there is none.

    Raises :class:`ConfigError` naming the file, the line, the key and the nearest valid key.
    """
    file = TomlFile.read(path, mentioning=table.rpartition(".")[2])
    raw = file.table(table) if file else None
    if file is None or raw is None:
        return None
    prefix = f"{table}." if table else ""

    def locate(key: str) -> Source:
        return file.locate(origin, prefix + key)

    def wrong(key: str, reason: str) -> ConfigError:
        source = locate(key)
        place = f"{source.path}:{source.line}" if source.line else str(source.path)
        return ConfigError(f"{escaped(place)}: {reason}")

    return Layer(origin, Settings.read(raw, wrong), locate)


def project_layer(directory: Path) -> Layer | None:
    """Return the layer of the nearest project file from ``directory`` upwards, or None."""
    for folder in (directory, *directory.parents):
        layer = file_layer("project", folder / FILE)
        if layer is None:
            layer = file_layer("project", folder / PYPROJECT, PYPROJECT_TABLE)
        if layer is not None:
            return layer
    return None


def _line(text: str, weight: Callable[[str], int]) -> int:
    """Return the number of the line with the greatest weight."""
    lines = text.splitlines()
    return max(range(len(lines)), key=lambda number: weight(lines[number]), default=0) + 1


def _keys(text: str) -> Iterator[tuple[str, tuple[int, str]]]:
    """Yield (dotted key, (line, its text)); a scan, so text inside long strings may add keys unasked."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _dotted(header[1])
            yield table, (number, line.strip())
        elif assignment := _ASSIGNMENT.match(line):
            yield f"{table}.{_dotted(assignment[1])}".lstrip("."), (number, line.strip())


def _dotted(key: str) -> str:
    return ".".join(part.strip("\"'") for part in re.findall(_PART, key))
