"""Throw-away distributions beside the backend under test, and programs that see them installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from forge3d_conformance.bench import CHILD, Bench
from forge3d_conformance.child import Ended

CLONE = """
import re
from importlib.metadata import entry_points
from forge3d_core.hookspecs import hookimpl

def original():
    points = entry_points(group="forge3d.backends")
    (point,) = [p for p in points if re.sub(r"[-_.]+", "-", p.name).lower() == {target!r}]
    plugin = point.load()
    return (plugin() if isinstance(plugin, type) else plugin).forge3d_backend()

class Clone:
    name = {name!r}
    def __init__(self):
        self.real = original()
        self.api = self.real.api
    def probe(self):
        return self.real.probe()
    def open(self, selector="", *options):
        open({mark!r} + ".opened", "a").close()
        return self.real.open(selector, *options)
    def adopt(self, native, *options):
        return self.real.adopt(native, *options)

class plugin:
    @staticmethod
    @hookimpl
    def forge3d_backend():
        return Clone()
"""
"""A healthy plugin of any name: the backend under test again, leaving a mark when it opens."""

MOVED = (
    CLONE
    + """
from forge3d_core.protocols import ApiRange, ApiVersion
class Moved(Clone):
    def __init__(self):
        super().__init__()
        self.api = ApiRange(ApiVersion(97, 1), ApiVersion(98, 2))
Clone = Moved
"""
)
"""The same, in a plugin API that no core speaks yet."""

DEVICELESS = (
    CLONE
    + """
from forge3d_core.errors import NoDevice
class Deviceless(Clone):
    def probe(self):
        return []
    def open(self, selector="", *options):
        raise NoDevice("there is no device here for " + {name!r}, backend={name!r})
Clone = Deviceless
"""
)
"""The same on a machine that has no device for it."""


@attrs.define(eq=False)
class FakeSitePackages:
    """A folder of installed distributions and the working folder of the programs that see it."""

    folder: Path
    bench: Bench
    _user_file: Path | None = None

    def install(self, name: str, code: str = CLONE, distribution: str = "", *, command: str = "") -> None:
        """Install a distribution that offers the backend ``name``, and a ``command`` of ``forge3d``.

        Its package leaves a mark when it runs.
        """
        distribution = distribution or f"forge3d-{name}"
        package = distribution.replace("-", "_") + "_package"
        (self.folder / package).mkdir()
        mark = str(self.folder / distribution)
        for field, value in (("target", self.bench.target.name), ("name", name), ("mark", mark)):
            code = code.replace(f"{{{field}!r}}", repr(value))
        source = f"open({mark!r} + '.ran', 'a').close()\n{code}"
        (self.folder / package / "__init__.py").write_text(source, "utf-8")
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", "utf-8"
        )
        points = f"[forge3d.backends]\n{name} = {package}:plugin\n"
        points += f"[forge3d.commands]\n{command} = {package}:command\n" if command else ""
        (info / "entry_points.txt").write_text(points, "utf-8")

    def ran(self, distribution: str) -> bool:
        """Whether a line of the distribution's code has run."""
        return (self.folder / f"{distribution}.ran").exists()

    def opened(self, distribution: str) -> bool:
        """Whether the distribution's backend has opened a device."""
        return (self.folder / f"{distribution}.opened").exists()

    def forget(self) -> None:
        """Take the marks away."""
        for mark in (*self.folder.glob("*.ran"), *self.folder.glob("*.opened")):
            mark.unlink()

    @property
    def user_file(self) -> Path:
        """The user's own configuration, in a home of its own."""
        if self._user_file is None:
            ask = "import platformdirs; print(platformdirs.user_config_dir('forge3d', appauthor=False))"
            self._user_file = Path(self.run("-c", ask).stdout.strip()) / "config.toml"
        return self._user_file

    def run(self, *arguments: str, **variables: str) -> Ended:
        """Run ``python`` with ``arguments`` where this site, and no configuration but its own, is seen."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FORGE3D_")}
        paths = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8", "HOME": str(home)}
        environ |= {"XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache")}
        environ |= variables
        try:
            done = subprocess.run(
                [sys.executable, "-P", *arguments],
                cwd=self.folder,
                env=environ,
                capture_output=True,
                encoding="utf-8",
                timeout=2 * CHILD,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return Ended(None, str(error.stdout or ""), str(error.stderr or ""), 2 * CHILD)
        return Ended(done.returncode, done.stdout, done.stderr, 0.0)

    def forge3d(self, *arguments: str, **variables: str) -> Any:
        """Return what ``forge3d ... --json`` says; a violation when that is no JSON."""
        ended = self.run("-m", "forge3d_core", *arguments, "--json", **variables)
        try:
            return json.loads(ended.stdout)
        except ValueError:
            self.bench.check(False, f"forge3d {' '.join(arguments)} --json wrote no JSON: {ended}")

    def backends(self, **variables: str) -> dict[str, Any]:
        """Return what ``forge3d backends`` says of each backend, by name."""
        return {status["name"]: status for status in self.forge3d("backends", **variables)["backends"]}

    def open(self, argument: str | None = None, **variables: str) -> list[str]:
        """Open a device in a fresh program; return ``["opened", name]`` or the error's type and message."""
        return self.program(f"attempt({argument!r})", **variables)  # type: ignore[no-any-return]

    def program(self, expression: str, **variables: str) -> Any:
        """Return what an expression over ``attempt(backend)`` gives in a fresh program."""
        ended = self.run("-c", OPEN + f"print(json.dumps({expression}))", **variables)
        self.bench.check(ended.status == 0, f"a program that opens a device: {ended}")
        return json.loads(ended.stdout.strip().splitlines()[-1])


OPEN = """
import json, os, pathlib, signal, sys
import forge3d_core
from forge3d_core.errors import ForgeError

def attempt(backend=None):
    try:
        with forge3d_core.open_device(backend) as device:
            return ["opened", device.info.name, ""]
    except ForgeError as error:
        return [type(error).__name__, str(error), getattr(error, "fix", None) or ""]

"""


@contextmanager
def site(bench: Bench) -> Iterator[FakeSitePackages]:
    """Make an empty site and take it away again; its programs begin with what a mutant has for them."""
    with TemporaryDirectory(prefix="forge3d-site-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(getattr(bench.layer, "program", ""), "utf-8")
        yield FakeSitePackages(Path(folder), bench)
