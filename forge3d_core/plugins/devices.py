"""The border that a probe's answer crosses: plain data that is checked, whichever process probed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, get_args

import attrs

from forge3d_core.errors import PluginFailed
from forge3d_core.printable import shown
from forge3d_core.protocols import DeviceInfo, Limits
from forge3d_core.protocols.device import DeviceKind

MAX_DEVICES = 1000
MAX_TEXT = 1000
MAX_NUMBER = 2**63 - 1

KINDS = get_args(DeviceKind)


def checked_devices(found: Iterable[Any], name: str) -> tuple[DeviceInfo, ...]:
    """Return what a probe found as values of our own types; raises :class:`PluginFailed` for a wrong one.

    Runs the plugin's code (its iterator, its subclasses' methods), so call it where that is isolated.
    """
    devices = tuple(islice(iter(found), MAX_DEVICES + 1))
    if len(devices) > MAX_DEVICES:
        raise PluginFailed(f"{name}'s probe returned more than {MAX_DEVICES} devices", backend=name)
    for device in devices:
        if not isinstance(device, DeviceInfo):
            raise PluginFailed(
                f"{name}'s probe returned {shown(device)} where a DeviceInfo belongs", backend=name
            )
    return tuple(device_from(device_data(device), name) for device in devices)


def device_data(info: DeviceInfo) -> dict[str, Any]:
    """Return a device as plain data, as JSON has it."""
    data = {field.name: getattr(info, field.name) for field in attrs.fields(DeviceInfo)}
    if isinstance(info.limits, Limits):
        data["limits"] = {field.name: getattr(info.limits, field.name) for field in attrs.fields(Limits)}
    return data


def device_from(data: Any, name: str) -> DeviceInfo:
    """Return the device that :func:`device_data` described; raises :class:`PluginFailed` for a wrong field.

    Every value is of a built-in type afterwards, text is bounded, and numbers fit 64 bits.
    """
    read = _Reader(data, name, "DeviceInfo")
    limits = read.data.get("limits")
    return DeviceInfo(
        backend=read.text("backend"),
        name=read.text("name"),
        kind=read.one_of("kind", KINDS),
        selector=read.text("selector"),
        driver=read.text("driver"),
        score=read.score("score"),
        memory_bytes=None if read.data.get("memory_bytes") is None else read.count("memory_bytes"),
        caution=read.text("caution"),
        fix=None if read.data.get("fix") is None else read.text("fix"),
        limits=None if limits is None else _limits(_Reader(limits, name, "Limits")),
    )


def _limits(read: _Reader) -> Limits:
    x, y, z = read.counts("max_groups", 3)
    return Limits(
        max_buffer_size=read.count("max_buffer_size"),
        max_texture_size=read.count("max_texture_size"),
        copy_alignment=read.count("copy_alignment"),
        row_pitch_alignment=read.count("row_pitch_alignment"),
        staging_alignment=read.count("staging_alignment"),
        max_groups=(x, y, z),
        max_group_threads=read.count("max_group_threads"),
        languages=read.texts("languages"),
        lanes=read.texts("lanes"),
        concurrent_lanes=read.flag("concurrent_lanes"),
        mapped_copies=read.flag("mapped_copies"),
        features=read.texts("features"),
        texture_formats=read.texts("texture_formats"),
        max_texture_layers=read.count("max_texture_layers"),
        max_texture_depth=read.count("max_texture_depth"),
        whole_depth_copies=read.flag("whole_depth_copies"),
    )


class _Reader:
    """Reads the fields of one value, each as the type that it must have."""

    def __init__(self, data: Any, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        if not isinstance(data, Mapping):
            raise self._wrong("", data, f"the fields of {kind}")
        self.data: Mapping[str, Any] = data

    def text(self, field: str) -> str:
        return self._text(field, self.data.get(field))

    def _text(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise self._wrong(field, value, f"text of at most {MAX_TEXT} characters")
        return str.__str__(value)

    def texts(self, field: str) -> tuple[str, ...]:
        return tuple(self._text(field, item) for item in self._items(field))

    def _items(self, field: str) -> tuple[Any, ...]:
        value = self.data.get(field)
        if not isinstance(value, list | tuple) or len(value) > MAX_DEVICES:
            raise self._wrong(field, value, "a tuple")
        return tuple(value)

    def one_of(self, field: str, values: tuple[str, ...]) -> Any:
        value = self.data.get(field)
        if value not in values:
            raise self._wrong(field, value, f"one of {', '.join(values)}")
        return self._text(field, value)

    def count(self, field: str) -> int:
        return self._count(field, self.data.get(field))

    def _count(self, field: str, value: Any) -> int:
        try:
            number = int(value.__index__())
        except Exception:
            number = -1
        if isinstance(value, bool) or not 0 <= number <= MAX_NUMBER:
            raise self._wrong(field, value, "a whole number from 0")
        return number

    def counts(self, field: str, length: int) -> tuple[int, ...]:
        items = self._items(field)
        if len(items) != length:
            raise self._wrong(field, items, f"{length} whole numbers")
        return tuple(self._count(field, item) for item in items)

    def score(self, field: str) -> int:
        """A score may be negative, and a float: what counts is the order."""
        value = self.data.get(field)
        try:
            number = float(value)  # type: ignore[arg-type]
        except Exception:
            number = math.nan
        if isinstance(value, bool | str | bytes) or not abs(number) <= MAX_NUMBER:
            raise self._wrong(field, value, "a number")
        return int(number) if number == int(number) else number  # type: ignore[return-value]

    def flag(self, field: str) -> bool:
        value = self.data.get(field)
        if not isinstance(value, bool):
            raise self._wrong(field, value, "True or False")
        return value

    def _wrong(self, field: str, value: Any, wanted: str) -> PluginFailed:
        what = f"{self.kind}.{field}" if field else self.kind
        return PluginFailed(
            f"{self.name}'s probe returned a {what} of {shown(value)}, which must be {wanted}; tell its "
            "author",
            backend=self.name,
        )
