"""Throw-away distributions: a package and its metadata in a folder that is put on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import attrs
import pytest

import forge3d_core
from forge3d_core.plugins import discover
from forge3d_core.plugins.registry import Registry

ROOT = Path(forge3d_core.__file__).parents[1]
TINY = Path(__file__).parent / "tiny.py"

HEALTHY = """
from {module}.tiny import TinyBackend, plugin
plugin = plugin(TinyBackend({name!r}))
"""


@attrs.define(eq=False)
class FakeSitePackages:
    """A folder of installed distributions, as ``site-packages`` is one."""

    folder: Path
    distributions: list[str] = attrs.field(factory=list)

    def install(
        self,
        name: str,
        code: str = HEALTHY,
        *,
        distribution: str | None = None,
        entry_points: str | None = None,
        requires: tuple[str, ...] = (),
    ) -> str:
        """Install a distribution that offers the backend ``name``; return the name of its package.

        ``code`` is the package's ``__init__``; in it ``{module}`` and ``{name!r}`` are filled in.
        What it names ``plugin`` is the plugin.
        """
        distribution = distribution or f"forge3d-{name}"
        module = distribution.replace("-", "_") + "_pkg"
        package = self.folder / module
        package.mkdir()
        shutil.copy(TINY, package)
        mark = f"open({str(self.mark(name))!r}, 'a').close()\n"
        code = code.replace("{module}", module).replace("{name!r}", repr(name))
        (package / "__init__.py").write_text(mark + code, "utf-8")
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", "Version: 1.0"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
        points = entry_points or f"[forge3d.backends]\n{name} = {{module}}:plugin\n"
        (info / "entry_points.txt").write_text(points.replace("{module}", module), "utf-8")
        self.distributions.append(distribution)
        return module

    def mark(self, name: str) -> Path:
        """Return the file that comes to be when the code of plugin ``name`` runs."""
        return self.folder / f"{name}.ran"

    def ran(self, name: str) -> bool:
        return self.mark(name).exists()

    def tiny(self, name: str, **traits: Any) -> Any:
        """Return a backend of the kind that :meth:`install` installs, without installing it."""
        spec = spec_from_file_location("tiny", TINY)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.TinyBackend(name, **traits)

    def registry(self) -> Registry:
        """Return a registry that sees the distributions installed here and no others."""
        return Registry(discovery=lambda: [c for c in discover() if c.distribution in self.distributions])

    def run(self, *arguments: str, timeout: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``python`` with ``arguments`` in a process that sees this site."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("FORGE3D_", "COLUMNS"))}
        environ |= {
            "PYTHONPATH": os.pathsep.join((str(self.folder), str(ROOT))),
            "PYTHONIOENCODING": "utf-8",
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "FORGE3D_DENY": "wgpu,cuda",  # whatever the machine has, these tests are not about it
            **variables,
        }
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environ,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    def cli(self, *arguments: str, timeout: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``forge3d`` with ``arguments``."""
        return self.run(
            "-c", "from forge3d_core.cli import main; main()", *arguments, timeout=timeout, **variables
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSitePackages]:
    """An empty site on the path, with no configuration but what the test makes."""
    folder = tmp_path / "site"
    folder.mkdir()
    for variable in [v for v in os.environ if v.startswith("FORGE3D_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield FakeSitePackages(folder)
    for module in set(sys.modules) - before:
        if Path(getattr(sys.modules[module], "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[module]


def registry_of(*backends):
    registry = Registry(discovery=tuple)
    for backend in backends:
        registry.register(backend)
    return registry


def refusing(backend, error):
    def refuse(*_args):
        raise error

    backend.open = refuse
    return backend


@pytest.fixture
def say(tmp_path, monkeypatch, site):
    """Return a function that makes one source name a backend and returns what the argument says then."""

    def say(source, key, value):
        if source == "environment":
            monkeypatch.setenv(f"FORGE3D_{key.upper()}", value)
        elif source == "project":
            (site.folder / "forge3d.toml").write_text(f'{key} = "{value}"\n', "utf-8")
        elif source == "user":
            user = tmp_path / "config" / "forge3d"
            user.mkdir(parents=True, exist_ok=True)
            monkeypatch.setattr("forge3d_core.config.layers.user_config_file", lambda: user / "config.toml")
            (user / "config.toml").write_text(f'{key} = "{value}"\n', "utf-8")
        return {key: value} if source == "argument" else {}

    return say
