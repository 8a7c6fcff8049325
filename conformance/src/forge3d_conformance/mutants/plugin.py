"""Backends that do too much when they are imported, or do not say who they are; cores that choose badly.

How plugins are found and chosen is the core's own, which nothing laid over a backend can break. The clauses
about it are tested by programs, and :class:`Tampered` breaks what such a program finds when it begins.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.protocols import ApiRange, ApiVersion


@mutant("plugin.imports-its-library", breaks="plugin.lazy", because="native code already: eager_gpu_library")
class ImportsItsLibrary(Layer):
    """The plugin imports its GPU library at the top of its module."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="forge3d-mutant-")
        package = Path(self.folder.name, "eager_gpu_library")
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "native.so").touch()

    class Backend(Layer.Backend):
        def __init__(self, layer: Any, target: Any) -> None:
            super().__init__(layer, target)
            sys.path.insert(0, layer.folder.name)
            try:
                importlib.import_module("eager_gpu_library")
            finally:
                sys.path.remove(layer.folder.name)


@mutant("plugin.another-name", breaks="plugin.version", because="the backend names itself")
class AnotherName(Layer):
    """The backend calls itself otherwise than its entry point does."""

    class Backend(Layer.Backend):
        @property
        def name(self) -> str:
            return f"{self.target.name}-gpu"


@mutant("plugin.api-of-tomorrow", breaks="plugin.version", because="and the core")
class ApiOfTomorrow(Layer):
    """The backend speaks a plugin API that this core does not know."""

    class Backend(Layer.Backend):
        @property
        def api(self) -> ApiRange:
            return ApiRange(ApiVersion(9, 0), ApiVersion(9, 4))


@mutant("plugin.api-back-to-front", breaks="plugin.version", because="ends before it begins")
class ApiBackToFront(Layer):
    """The range of plugin APIs is stated newest first."""

    class Backend(Layer.Backend):
        @property
        def api(self) -> ApiRange:
            return ApiRange(ApiVersion(1, 1), ApiVersion(1, 0))


@mutant("plugin.api-as-text", breaks="plugin.version", because="not an ApiRange")
class ApiAsText(Layer):
    """The plugin API is stated as text."""

    class Backend(Layer.Backend):
        @property
        def api(self) -> str:
            return "1.0"


class Tampered(Layer):
    """A base of mutants: every program of a site runs ``program`` before anything else."""

    program: ClassVar[str]


@mutant("plugin.all-or-nothing", breaks="plugin.isolated", because="beside broken plugins the backend is")
class AllOrNothing(Tampered):
    """Whoever loads one plugin loads them all, and one that is broken spoils it."""

    program = """
from importlib.metadata import EntryPoint, entry_points
load = EntryPoint.load

def together(self):
    for other in sorted(entry_points(group=self.group), key=lambda point: point.name):
        load(other)
    return load(self)

EntryPoint.load = together
"""


@mutant("plugin.environment-unheard", breaks="plugin.precedence", because="environment (says|is overridden)")
class EnvironmentUnheard(Tampered):
    """Nobody looks at FORGE3D_BACKEND."""

    program = """
import os
os.environ.pop("FORGE3D_BACKEND", None)
"""


@mutant(
    "plugin.falls-back",
    breaks="plugin.no-fallback",
    because=r"no-such-backend, and open_device gave \['opened'",
)
class FallsBack(Tampered):
    """A backend that the environment names and nobody offers is passed over in silence."""

    program = """
import os
from importlib.metadata import entry_points
offered = {point.name for point in entry_points(group="forge3d.backends")}
if os.environ.get("FORGE3D_BACKEND") not in offered:
    os.environ.pop("FORGE3D_BACKEND", None)
"""


@mutant(
    "plugin.finds-by-importing", breaks="plugin.deny-before-import", because="a plugin denied by name ran"
)
class FindsByImporting(Tampered):
    """Plugins are found by importing them, and the lists are looked at afterwards."""

    program = """
from importlib.metadata import entry_points
for point in entry_points(group="forge3d.backends"):
    try:
        point.load()
    except BaseException:
        pass
"""


@mutant("plugin.last-one-wins", breaks="plugin.no-collision", because="two plugins of one name are")
class LastOneWins(Tampered):
    """Of two distributions that offer one name only the last that was found is known."""

    program = """
from importlib import metadata
distributions = metadata.distributions

def of_different_names(**context):
    found = {}
    for distribution in distributions(**context):
        names = {point.name for point in distribution.entry_points if point.group == "forge3d.backends"}
        found[frozenset(names) or distribution] = distribution
    return iter(found.values())

metadata.distributions = of_different_names
"""


@mutant(
    "plugin.explains-something-else", breaks="plugin.explains", because="environment says other, explain says"
)
class ExplainsSomethingElse(Tampered):
    """The explanation does not take the environment into account, and opening does."""

    program = """
import os, sys
if "explain" in sys.orig_argv:
    os.environ.pop("FORGE3D_BACKEND", None)
"""
