"""How a backend is named: ``wgpu``, ``wgpu:llvmpipe``, ``host:?seed=42&chaos=1``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

import attrs

from forge3d_core.errors import UsageError
from forge3d_core.printable import shown

AUTO = "auto"
"""The name that asks for automatic choice, to undo a choice made at a lower precedence."""

_SEPARATORS = re.compile(r"[-_.]+")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def normalise(name: str) -> str:
    """Return ``name`` as names are compared, of backends and of distributions: ``My_Gpu`` is ``my-gpu``.

    Text that is not ASCII is no name and stays as it is: U+212A would otherwise become a ``k``.
    """
    joined = _SEPARATORS.sub("-", name.strip())
    return joined.lower() if joined.isascii() else joined


def is_name(text: str) -> bool:
    """Whether ``text``, normalised, can be the name of a backend or a distribution."""
    return _NAME.fullmatch(normalise(text)) is not None


def listed_name(text: str, known: Callable[[], Iterable[str]] = tuple) -> str:
    """Return an entry of an allow or deny list, normalised.

    Raises :class:`UsageError` for one that can never be a name and would silently match nothing; it tells
    the nearest of the ``known`` names.
    """
    if not is_name(text):
        plain = re.sub(r"[^a-z0-9]+", "-", re.split("[:=<>~!]", text.lower())[0]).strip("-")
        near = difflib.get_close_matches(plain or text, sorted(known()), n=1) or [plain]
        advice = f"did you mean {near[0]!r}?" if near[0] else "write each name"
        raise UsageError(
            f"{shown(text)} can never be the name of a backend or a distribution (letters, digits, '-', '_' "
            f"and '.'; no patterns, selectors, versions or quotes), so it would match nothing; {advice}"
        )
    return normalise(text)


@attrs.frozen
class BackendSpec:
    """A backend's name and a selector that only the backend understands."""

    name: str
    selector: str = ""

    @classmethod
    def parse(cls, text: str) -> BackendSpec:
        """Read ``name`` or ``name:selector``; raises :class:`UsageError` for what cannot be a name."""
        if not isinstance(text, str):
            raise UsageError(f"a backend is named by text such as 'wgpu' or 'cuda:1', not {shown(text)}")
        head, _, selector = text.strip().partition(":")
        name = normalise(head)
        if not _NAME.fullmatch(name):
            before_query, query, rest = head.partition("?")
            hint = f"; did you mean '{before_query}:?{rest}'?" if query and before_query else ""
            raise UsageError(f"{shown(text)} does not name a backend; write 'name' or 'name:selector'{hint}")
        if name == AUTO and selector.strip():
            raise UsageError(f"{shown(text)}: automatic choice takes no selector; write 'auto'")
        return cls(name, selector.strip())

    @property
    def automatic(self) -> bool:
        return self.name == AUTO

    def __str__(self) -> str:
        return f"{self.name}:{self.selector}" if self.selector else self.name
