"""What a selector of the host backend may say: ``host:0?seed=42&link=2GB/s``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import attrs

from forge3d_core.arguments import integer, shown
from forge3d_core.deadline import seconds
from forge3d_core.errors import NoDevice, UsageError
from forge3d_core.units import parse_bytes

STANDARD_LANES = ("upload", "compute", "download")
_PER_SECOND = {"ns": 1e9, "us": 1e6, "µs": 1e6, "ms": 1e3, "s": 1.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-zµ]+)\s*", re.IGNORECASE)
_SWITCH = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


def parse_duration(text: float | str) -> float:
    """Return seconds from a number of seconds or text such as ``"50us"`` or ``"2 ms"``."""
    if not isinstance(text, str):
        return seconds(text, "a duration")
    match = _DURATION.fullmatch(text)
    unit = _PER_SECOND.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise UsageError(f"{text!r} is not a duration; write for example '50us', '2ms' or '1s'")
    return float(match[1]) / unit


def parse_rate(text: int | str) -> int:
    """Return bytes per second from an int or text such as ``"2GB/s"``."""
    return parse_bytes(text.removesuffix("/s") if isinstance(text, str) else text)


def _parse_int(text: int | str) -> int:
    if not isinstance(text, str):
        return integer("an option", text)
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{shown(text)} is not a whole number") from None


def _parse_switch(text: bool | str | None) -> bool | None:
    if not isinstance(text, str):
        return text
    if text.lower() not in _SWITCH:
        raise UsageError(f"{text!r} is not a switch; write 1 or 0")
    return _SWITCH[text.lower()]


def _parse_lanes(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.split(",")) if isinstance(text, str) else tuple(text)


def _at_least(least: int) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_instance: Any, _attribute: attrs.Attribute[Any], value: int | None) -> None:
        if value is not None and value < least:
            raise UsageError(f"{value} is too small; the least is {least}")

    return check


def _power_of_two(_instance: Any, _attribute: attrs.Attribute[Any], value: int) -> None:
    if value < 1 or value & (value - 1):
        raise UsageError(f"{value} is not a power of two")


@attrs.frozen
class HostOptions:
    """How the host machine behaves; the keys of a selector's query.

    ``link``: simulated bytes per second of uploads and of downloads. ``latency``: seconds that each of
    them takes besides. ``pitch``, ``align``: row pitch and copy alignment in bytes, to stand in for an
    API that demands them. ``seed``, ``chaos``: completions in adversarial order, the same for the same
    seed. ``lose_after``: the device is lost with that submission. ``oom_at``: that allocation is
    refused. Both count from 1. ``lanes``: names, separated by commas, the three standard ones among
    them.
    """

    seed: int | None = attrs.field(default=None, converter=attrs.converters.optional(_parse_int))
    chaos: bool = attrs.field(
        default=attrs.Factory(lambda self: self.seed is not None, takes_self=True), converter=_parse_switch
    )
    link: int | None = attrs.field(
        default=None, converter=attrs.converters.optional(parse_rate), validator=_at_least(1)
    )
    latency: float = attrs.field(default=0.0, converter=parse_duration, validator=_at_least(0))
    lose_after: int | None = attrs.field(
        default=None, converter=attrs.converters.optional(_parse_int), validator=_at_least(1)
    )
    oom_at: int | None = attrs.field(
        default=None, converter=attrs.converters.optional(_parse_int), validator=_at_least(1)
    )
    pitch: int = attrs.field(default=1, converter=_parse_int, validator=_power_of_two)
    align: int = attrs.field(default=1, converter=_parse_int, validator=_power_of_two)
    lanes: tuple[str, ...] = attrs.field(default=STANDARD_LANES, converter=_parse_lanes)

    @lanes.validator
    def _complete(self, _attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
        missing = [name for name in STANDARD_LANES if name not in value]
        if missing:
            raise UsageError(f"{', '.join(missing)} is missing; name the three standard lanes and your own")
        if len(set(value)) < len(value) or not all(name.isidentifier() for name in value):
            raise UsageError(f"{', '.join(map(repr, value))} are not different identifiers")

    @property
    def simulated(self) -> bool:
        """Whether the machine does anything that plain host memory would not."""
        return self != HostOptions()


KEYS = tuple(field.name for field in attrs.fields(HostOptions))


def parse_selector(selector: str) -> HostOptions:
    """Return the options that ``""``, ``"0"``, ``"?key=value&..."`` or ``"0?key=value"`` stand for.

    Raises :class:`NoDevice` for a device other than 0, :class:`UsageError` for an unknown key, with the
    nearest one, or a value that does not parse.
    """
    device, _, query = selector.partition("?")
    if device not in ("", "0"):
        raise NoDevice(
            f"host has no device {device!r}, only '0'; options follow a question mark: host:?seed=42",
            backend="host",
        )
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError(f"{query!r} in selector {selector!r} is not key=value&key=value") from None
    values: dict[str, str] = {}
    for key, value in pairs:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(KEYS)}"
            raise UsageError(f"host knows no option {key!r} (selector {selector!r}); {hint}")
        if key in values:
            raise UsageError(f"option {key!r} stands twice in selector {selector!r}; keep one")
        values[key] = value
        try:
            attrs.evolve(HostOptions(), **{key: value})
        except UsageError as error:
            raise UsageError(f"option {key!r} of selector {selector!r}: {error}") from None
    return HostOptions(**values)
