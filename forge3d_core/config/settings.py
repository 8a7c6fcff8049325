"""The keys that a configuration may hold, and how raw values become them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NewType

import attrs
import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError

from forge3d_core.deadline import seconds
from forge3d_core.errors import UsageError
from forge3d_core.plugins import BackendSpec, Policy, discover, listed_name, normalise
from forge3d_core.plugins.isolation import MAX_SECONDS
from forge3d_core.printable import escaped, shown
from forge3d_core.protocols.device import tuning_mode
from forge3d_core.units import parse_bytes

Bytes = NewType("Bytes", int)
Seconds = NewType("Seconds", float)
Patience = NewType("Patience", float)
Names = NewType("Names", tuple[str, ...])
Mode = NewType("Mode", str)
MAX_BYTES = 2**63 - 1


@attrs.frozen
class PluginSettings:
    """The table ``[plugins]``; None where the source has no say.

    ``allow``, ``deny``, ``autoload``: see :class:`~forge3d_core.plugins.Policy`. ``import_timeout``
    and ``probe_timeout``: seconds until a plugin counts as hung.
    """

    allow: Names | None = None
    deny: Names | None = None
    autoload: bool | None = None
    import_timeout: Patience | None = None
    probe_timeout: Patience | None = None

    @property
    def policy(self) -> Policy:
        return Policy(self.allow, self.deny or (), self.autoload is not False)


@attrs.frozen
class Settings:
    """All keys; None where the source has no say.

    ``backend``: ``"wgpu:llvmpipe"``, or ``"auto"``. ``budget``: host-visible bytes, ``"512 MiB"``.
    ``drain_timeout``: seconds that a device's ``close`` lets submitted work end. ``tuning``: how large
    transfers are cut, ``"measured"`` once on each machine or ``"fixed"``.
    """

    backend: BackendSpec | None = None
    budget: Bytes | None = None
    drain_timeout: Seconds | None = None
    tuning: Mode | None = None
    plugins: PluginSettings = attrs.field(factory=PluginSettings)

    @classmethod
    def read(cls, raw: Mapping[str, Any], wrong: Callable[[str, str], Exception]) -> Settings:
        """Return ``raw`` (as TOML has it) as settings; raises ``wrong(key, reason)`` for the first flaw."""
        try:
            return _converter.structure(raw, cls)
        except ClassValidationError as error:
            key, reason = next(_flaws(error, "", cls))
            raise wrong(key, reason) from None


def _flaws(error: ClassValidationError, prefix: str, kind: type[Any]) -> Iterator[tuple[str, str]]:
    placed, unplaced = error.group_exceptions()
    for flaw in unplaced:
        if isinstance(flaw, ForbiddenExtraKeysError):
            valid = [field.name for field in attrs.fields(flaw.cl)]
            for key in sorted(flaw.extra_fields):
                near = difflib.get_close_matches(key, valid, n=1)
                advice = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
                yield prefix + key, f"unknown key {shown(prefix + key)}; {advice}"
    for flaw, note in placed:
        key = prefix + note.name
        if isinstance(flaw, ClassValidationError):
            yield from _flaws(flaw, key + ".", note.type)
        else:
            yield key, escaped(f"{key}: {flaw}")


def _spec(value: Any, _: object) -> BackendSpec:
    return value if isinstance(value, BackendSpec) else BackendSpec.parse(value)


def _seconds(value: Any, _: object) -> Seconds:
    number = seconds(value, "a time")
    if not 0 <= number <= MAX_SECONDS:  # a negative one is a slip: it is not what is left of something
        raise UsageError(f"a time is a number of seconds from 0 to {MAX_SECONDS:.0f}, not {shown(value)}")
    return Seconds(number)


def _patience(value: Any, _: object) -> Patience:
    if value == 0:
        raise UsageError("a plugin needs some time, in seconds; to keep one out, deny it")
    return Patience(_seconds(value, _))


def _mode(value: Any, _: object) -> Mode:
    return Mode(tuning_mode(value))


def _bytes(value: Any, _: object) -> Bytes:
    try:
        size = parse_bytes(value)
    except (ValueError, OverflowError) as error:  # more digits than int() takes
        given = shown(value, 60)
        raise error if isinstance(error, UsageError) else UsageError(f"{given} is not a size") from None
    if size > MAX_BYTES:
        raise UsageError(f"{shown(value, 60)} is more bytes than a machine can address")
    return Bytes(size)


def _names(value: Any, _: object) -> Names:
    if isinstance(value, str) or not all(isinstance(name, str) and name.strip() for name in _items(value)):
        raise UsageError(f"a list of names looks like ['wgpu', 'cuda'], not {shown(value)}")
    return Names(tuple(listed_name(name, _installed) for name in value))


def _installed() -> set[str]:
    return {name for c in discover() for name in (c.name, normalise(c.distribution))}


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (None,)


def _flag(value: Any, _: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"write true or false, not {shown(value)}")
    return value


def _table(value: Any, kind: Any) -> Any:
    if not isinstance(value, Mapping):
        raise UsageError(f"it is a table of keys, not {shown(value)}")
    return _plugin_settings(value, kind)


_converter = cattrs.Converter(forbid_extra_keys=True)
_converter.register_structure_hook(BackendSpec, _spec)
_converter.register_structure_hook(Bytes, _bytes)
_converter.register_structure_hook(Seconds, _seconds)
_converter.register_structure_hook(Patience, _patience)
_converter.register_structure_hook(Names, _names)
_converter.register_structure_hook(Mode, _mode)
_converter.register_structure_hook(bool, _flag)
_plugin_settings = _converter.get_structure_hook(PluginSettings)
_converter.register_structure_hook(PluginSettings, _table)
