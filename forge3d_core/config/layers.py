"""All sources of settings, in order of precedence.

The first that has a say wins: arguments, the environment, the nearest ``forge3d.toml`` or
``[tool.forge3d]`` in a ``pyproject.toml`` from the working directory upwards (in one folder
``forge3d.toml`` wins), the user's ``config.toml`` in the platform's configuration folder. What keeps
plugins out is not overridden but added up: what any source forbids is forbidden.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

import attrs
import platformdirs

from forge3d_core.config.environment import environment_layer
from forge3d_core.config.settings import Settings
from forge3d_core.config.source import Choice, Layer, Source
from forge3d_core.config.toml import file_layer, project_layer
from forge3d_core.errors import UsageError
from forge3d_core.plugins import Policy
from forge3d_core.printable import shown


@attrs.frozen
class Configuration:
    """The layers that apply, the strongest first."""

    layers: tuple[Layer, ...]

    def choices(self, key: str) -> tuple[Choice, ...]:
        """Return what every source says on ``key`` (``"plugins.deny"``); the first one holds."""
        said = (layer.choice(key) for layer in self.layers)
        return tuple(choice for choice in said if choice is not None)

    def get(self, key: str, default: Any = None) -> Choice:
        """Return the choice that holds, or the default."""
        return next(iter(self.choices(key)), Choice(key, default, Source("default")))

    @property
    def policy(self) -> Policy:
        """What all sources together let load."""
        return reduce(and_, (layer.settings.plugins.policy for layer in self.layers), Policy())


def configuration(
    *,
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
    user_file: Path | None = None,
    **arguments: Any,
) -> Configuration:
    """Gather every source that applies in ``directory`` (by default the working directory).

    ``arguments`` are settings (``backend``, ``budget``, …), None where there is none. Raises
    :class:`UsageError` for a bad argument and :class:`ConfigError` for a bad source, naming the file
    or the variable, the key, and the nearest valid key.
    """
    found = (
        _argument_layer({key: value for key, value in arguments.items() if value is not None}),
        environment_layer(os.environ if environ is None else environ),
        _project_layer(directory),
        file_layer("user", user_file or user_config_file()),
    )
    return Configuration(tuple(layer for layer in found if layer is not None))


def _project_layer(directory: Path | None) -> Layer | None:
    try:
        here = (directory or Path.cwd()).absolute()
    except OSError:  # the working directory is gone, and with it whatever file was nearest
        return None
    return project_layer(here)


def user_config_file() -> Path:
    """Return where the user's own configuration lives, whether it exists or not."""
    return Path(platformdirs.user_config_dir("forge3d", appauthor=False)) / "config.toml"


def _argument_layer(arguments: Mapping[str, Any]) -> Layer:
    def locate(key: str) -> Source:
        return Source("argument", f"{key}={shown(str(arguments.get(key)))}")

    return Layer("argument", Settings.read(arguments, lambda _key, reason: UsageError(reason)), locate)
