"""Evidence as it may be published: plain text without paths, host names or terminal colours."""

from __future__ import annotations

import platform
import re

_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_DIRECTORIES = re.compile(
    r"""(?<![\w.:/…~>])(?:~?/(?:[^\s/:'"<>|,()]+/)+|[A-Za-z]:[\\/](?:[^\\/:'"<>|,()\n]+[\\/])+)"""
)
_LOCAL = frozenset({"", "localhost"})


def redact(text: str) -> str:
    """Return ``text`` without what says whose machine it came from; what is left is valid UTF-8.

    The directories of an absolute path become ``…/``, this machine's host name becomes ``host``.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    text = _CONTROL.sub("", _ESCAPE.sub("", text).replace("\r\n", "\n"))
    text = _DIRECTORIES.sub("…/", text.replace("file://", ""))
    node = platform.node()
    if node not in _LOCAL and len(node) > 3:
        text = re.sub(rf"\b{re.escape(node)}\b", "host", text)
    return text if text.strip() else "(nothing legible)"
