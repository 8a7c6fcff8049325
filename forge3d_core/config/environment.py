"""The environment as a source of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forge3d_core.config.settings import Settings
from forge3d_core.config.source import Layer, Source
from forge3d_core.errors import ConfigError

_FLAGS = {
    **dict.fromkeys(("1", "true", "on", "yes"), True),
    **dict.fromkeys(("0", "false", "off", "no"), False),
}


def _flag(text: str) -> Any:
    return _FLAGS.get(text.lower(), text)  # what is no flag is refused as such later on


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


VARIABLES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "backend": ("FORGE3D_BACKEND", str),
    "budget": ("FORGE3D_BUDGET", str),
    "drain_timeout": ("FORGE3D_DRAIN_TIMEOUT", _number),
    "plugins.allow": ("FORGE3D_ALLOW", _names),
    "plugins.deny": ("FORGE3D_DENY", _names),
    "plugins.autoload": ("FORGE3D_AUTOLOAD", _flag),
    "plugins.import_timeout": ("FORGE3D_IMPORT_TIMEOUT", _number),
    "plugins.probe_timeout": ("FORGE3D_PROBE_TIMEOUT", _number),
}
"""The variable of each key; one that is empty or blank counts as unset."""


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return the layer that the environment makes; raises :class:`ConfigError` naming the variable."""
    raw: dict[str, Any] = {}
    for key, (variable, read) in VARIABLES.items():
        if text := environ.get(variable, "").strip():
            table, _, name = key.rpartition(".")
            (raw.setdefault(table, {}) if table else raw)[name] = read(text)

    def locate(key: str) -> Source:
        variable = VARIABLES[key][0]
        return Source("environment", f"{variable}={environ.get(variable, '')}")

    def wrong(key: str, reason: str) -> ConfigError:
        return ConfigError(f"environment variable {VARIABLES[key][0]}: {reason}")

    return Layer("environment", Settings.read(raw, wrong), locate)
