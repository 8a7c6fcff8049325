"""Backends that do too much when they are imported, or do not say who they are.

The registry is the core's own, so nothing that is laid over a backend can break the clauses about it.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

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
