"""How a backend is named: ``wgpu``, ``wgpu:llvmpipe``, ``host:?seed=42&chaos=1``."""

from __future__ import annotations

import re

import attrs

from forge3d_core.errors import UsageError

AUTO = "auto"
"""The name that asks for automatic choice, to undo a choice made at a lower precedence."""

_SEPARATORS = re.compile(r"[-_.]+")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def normalise(name: str) -> str:
    """Return ``name`` as names are compared, of backends and of distributions: ``My_Gpu`` is ``my-gpu``."""
    return _SEPARATORS.sub("-", name.strip()).lower()


@attrs.frozen
class BackendSpec:
    """A backend's name and a selector that only the backend understands."""

    name: str
    selector: str = ""

    @classmethod
    def parse(cls, text: str) -> BackendSpec:
        """Read ``name`` or ``name:selector``; raises :class:`UsageError` for what cannot be a name."""
        if not isinstance(text, str):
            raise UsageError(f"a backend is named by text such as 'wgpu' or 'cuda:1', not {text!r}")
        head, _, selector = text.strip().partition(":")
        name = normalise(head)
        if not _NAME.fullmatch(name):
            before_query, query, rest = head.partition("?")
            hint = f"; did you mean '{before_query}:?{rest}'?" if query and before_query else ""
            raise UsageError(f"{text!r} does not name a backend; write 'name' or 'name:selector'{hint}")
        return cls(name, selector.strip())

    @property
    def automatic(self) -> bool:
        return self.name == AUTO

    def __str__(self) -> str:
        return f"{self.name}:{self.selector}" if self.selector else self.name
