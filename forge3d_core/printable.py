"""Text of foreign origin as it may be printed: on one line, without control characters, of bounded length.

A plugin's, an adapter's, a report's, a variable's or a file's text can hold escape sequences that repaint a
terminal, line breaks that forge a line of ours, and marks that reverse what is read. Whatever this project
prints of such text has passed through :func:`escaped`.
"""

from __future__ import annotations

from typing import Any

MAX_LENGTH = 2000
"""Characters of one foreign text that are shown."""


def escaped(text: str, length: int = MAX_LENGTH) -> str:
    r"""Return ``text`` with each character that is not printable as its escape, ``\x1b`` or ``\u202e``.

    Printable is what Unicode calls so: control and format characters (the bidirectional ones among them),
    line separators, surrogates and spaces other than U+0020 are not. Backslashes stay, so what is escaped
    once stays as it is. Text of more than ``length`` characters is cut and says so.
    """
    if len(text) > length:
        text = f"{text[:length]}… ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escaped_lines(text: str, length: int = MAX_LENGTH) -> str:
    """Return a text of several lines with each line :func:`escaped`; for evidence such as a traceback."""
    return "\n".join(escaped(line.expandtabs(), length) for line in text.splitlines())


def shown(value: Any, length: int = 200) -> str:
    """Return ``repr(value)`` escaped and cut, whatever ``__repr__`` raises."""
    try:
        text = repr(value)
    except BaseException:  # a hostile one may try to exit
        text = f"<{_type_name(value)} without a repr>"
    return escaped(text, length)


def described(error: BaseException) -> str:
    """Return an exception's type and message on one line, whatever its ``__str__`` does."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "(it has no readable message)"
    name = _type_name(error)
    return escaped(f"{name}: {text}" if text else name)


def _type_name(value: Any) -> str:
    try:
        return str(type.__dict__["__name__"].__get__(type(value)))  # not what a metaclass makes of it
    except BaseException:
        return "object"
