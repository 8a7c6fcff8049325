"""How objects show themselves: documentation, completion, a repr in one line, a table, and no pickling.

A repr is read in debuggers, logs and crash reports. It takes no lock, asks no driver, raises nothing, and
works on what is closed, lost, or of a parent process.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import attrs

from forge3d_core.arguments import MAX_SHOWN, shown
from forge3d_core.errors import WrongType
from forge3d_core.printable import escaped
from forge3d_core.units import format_bytes

MAX_LINE = 160
"""Characters of a repr."""

C = TypeVar("C", bound=type)


def line(*parts: object) -> str:
    """Return ``<first second, third, ...>`` without the empty ones, in printable characters, bounded."""
    first, *rest = (str(part) for part in parts if part not in ("", None))
    text = ", ".join((first, *rest))
    text = escaped(text)
    return f"<{text}>" if len(text) <= MAX_LINE - 2 else f"<{text[: MAX_LINE - 3]}…>"


def named(noun: str, label: str) -> str:
    """Return the noun and, where there is one, the label."""
    return f"{noun} {shown(label)}" if label else noun


def counted(number: int, noun: str) -> str:
    """Return ``1 buffer`` or ``2 buffers``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(title: str, rows: Mapping[str, object]) -> str:
    """Return an HTML table of names and values for a notebook. Everything is escaped."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>"


class Figures:
    """A frozen value of many fields: its repr is a line, its ``str`` and its table tell them all."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields_of(self))})"

    def _repr_html_(self) -> str:
        return table(type(self).__name__, {name: _figure(name, value) for name, value in fields_of(self)})


def fields_of(value: Any) -> list[tuple[str, Any]]:
    """Return the names and values of an attrs object's fields."""
    return [(field.name, getattr(value, field.name)) for field in attrs.fields(type(value))]


def _figure(name: str, value: object) -> str:
    sized = name.startswith("bytes_") or name.endswith(("_bytes", "_size", "nbytes"))
    text = (
        format_bytes(value) if sized and isinstance(value, int) and "texture_size" not in name else str(value)
    )
    return text if len(text) <= 4 * MAX_SHOWN else f"{text[: 4 * MAX_SHOWN]}…"


def presents(protocol: type, *, array: str = "") -> Callable[[C], C]:
    """Return a class decorator for what stands for a protocol in the hands of a user.

    What the protocol says of the class and of its members is what ``help`` says of it, completion lists
    the protocol's members alone, and pickle, which would make nonsense of it, is told so. So is numpy,
    where ``array`` says what to write instead.
    """
    members = frozenset(name for name in dir(protocol) if not name.startswith("_")) | _attributes(protocol)

    def decorate(cls: C) -> C:
        kind: Any = cls
        first, _, rest = (kind.__doc__ or "").partition("\n")
        told = inspect.cleandoc(protocol.__doc__ or "")
        kind.__doc__ = (
            f"{told}\n\n{inspect.cleandoc(rest)}".strip() if first.startswith("See :class:") else kind.__doc__
        )
        for name in members:
            member = inspect.getattr_static(cls, name, None)
            if isinstance(member, property) or inspect.isfunction(member):
                _document(member, protocol, name)

        def listing(self: object) -> list[str]:
            return sorted({*members, *(name for name in object.__dir__(self) if name.startswith("_"))})

        def no_array(self: object, dtype: object = None, copy: object = None) -> NoReturn:
            raise WrongType(f"{self!r} is no array; write {array}")

        kind.__dir__, kind.__reduce_ex__ = listing, no_copy
        if array:
            kind.__array__ = no_array
        return cls

    return decorate


def _attributes(protocol: type) -> frozenset[str]:
    return frozenset(
        name
        for base in protocol.__mro__
        for name in inspect.get_annotations(base)
        if not name.startswith("_")
    )


def _document(member: Any, protocol: type, name: str) -> None:
    if not member.__doc__:
        member.__doc__ = inspect.getdoc(inspect.getattr_static(protocol, name, None))


def no_copy(self: object, _protocol: object = None) -> NoReturn:
    """Refuse to be pickled or copied: as ``__reduce_ex__`` of what lives in one process."""
    raise WrongType(
        f"{self!r} belongs to this process and its device, and can be neither pickled nor copied; open a "
        "device in each process, and pass on arrays, sizes and kernel sources"
    )
