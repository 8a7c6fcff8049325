"""The environment as a source of settings."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from forge3d_core.config.settings import Settings
from forge3d_core.config.source import Layer, Source
from forge3d_core.errors import ConfigError
from forge3d_core.printable import escaped

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
    "tuning": ("FORGE3D_TUNING", str),
    "plugins.allow": ("FORGE3D_ALLOW", _names),
    "plugins.deny": ("FORGE3D_DENY", _names),
    "plugins.autoload": ("FORGE3D_AUTOLOAD", _flag),
    "plugins.import_timeout": ("FORGE3D_IMPORT_TIMEOUT", _number),
    "plugins.probe_timeout": ("FORGE3D_PROBE_TIMEOUT", _number),
}
"""The variable of each key; one that is empty or blank counts as unset."""

PREFIX = "FORGE3D_"
FOREIGN = ("FORGE3D_CONFORMANCE_", "FORGE3D_REQUIRE", "FORGE3D_TOP")
"""Variables of this project that are no settings."""


class ConfigWarning(UserWarning):
    """Something about a configuration source that its user should know; nothing is refused for it."""


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return the layer that the environment makes; raises :class:`ConfigError` naming the variable."""
    _refuse_unknown(environ)
    raw: dict[str, Any] = {}
    for key, (variable, read) in VARIABLES.items():
        if text := environ.get(variable, "").strip():
            table, _, name = key.rpartition(".")
            (raw.setdefault(table, {}) if table else raw)[name] = read(text)

    def locate(key: str) -> Source:
        variable = VARIABLES[key][0]
        return Source("environment", escaped(f"{variable}={environ.get(variable, '')}", 300))

    def wrong(key: str, reason: str) -> ConfigError:
        return ConfigError(f"environment variable {VARIABLES[key][0]}: {reason}")

    return Layer("environment", Settings.read(raw, wrong), locate)


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    """Raise :class:`ConfigError` for a variable that was meant for us and has no effect.

    That is one whose name is close to a variable of ours: ``FORGE3D_DENIED`` would deny nothing. Any other
    that begins as ours do may be another program's, and is warned of.
    """
    valid = [variable for variable, _ in VARIABLES.values()]
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in valid or variable.startswith(FOREIGN):
            continue
        told = f"environment variable {escaped(variable, 100)} has no effect"
        if near := _nearest(variable.removeprefix(PREFIX), valid):
            raise ConfigError(f"{told}; did you mean {near}?")
        warnings.warn(f"{told}; those that have: {', '.join(valid)}", ConfigWarning, stacklevel=4)


def _nearest(name: str, valid: list[str]) -> str | None:
    """Return the variable that ``name`` is close to, by spelling or by a word that keeps plugins out."""
    tails = {variable.removeprefix(PREFIX): variable for variable in valid}
    if near := difflib.get_close_matches(name, tails, n=1, cutoff=0.6):
        return tails[near[0]]
    return next((tails[word] for word in name.split("_") if word in ("ALLOW", "DENY", "AUTOLOAD")), None)
