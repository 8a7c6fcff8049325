"""Names that this project ships: they mean what it ships, and no other distribution can take them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import attrs

CORE = "forge3d-core"
CORE_PACKAGE = "forge3d_core"
HOST_TARGET = f"{CORE_PACKAGE}.host.plugin"


@attrs.frozen
class Owner:
    """The distribution that a name belongs to, and the package that its entry point lives in."""

    distribution: str
    package: str


_CORE = Owner(CORE, CORE_PACKAGE)
_SUITE = Owner("forge3d-conformance", "forge3d_conformance")

BACKENDS: Mapping[str, Owner] = {
    "host": _CORE,
    "wgpu": Owner("forge3d-wgpu", "forge3d_wgpu"),
    "cuda": Owner("forge3d-cuda", "forge3d_cuda"),
}
"""The backends that this project publishes."""

COMMANDS: Mapping[str, Owner] = {
    **dict.fromkeys(("backends", "explain", "demo"), _CORE),
    **dict.fromkeys(("bench", "conformance", "verify", "diff", "new-backend"), _SUITE),
}
"""The commands that this project publishes."""

_FOLDERS = {"forge3d-wgpu": "backends/wgpu_backend", "forge3d-cuda": "backends/cuda_backend"} | {
    _SUITE.distribution: "conformance",
    CORE: "",
}


def installing(distribution: str, extra: str = "") -> str:
    """Return the command that installs a distribution of this project, or another one, with an extra.

    Where the core runs from a clone, the clone has its distributions: no index is needed, and none may have
    them yet.
    """
    wanted = f"[{extra}]" if extra else ""
    clone = Path(__file__).resolve().parents[2]
    folder = _FOLDERS.get(distribution)
    if folder is not None and (clone / folder / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(str(clone / folder) + wanted)}"
    return f'pip install "{distribution}{wanted}"' if wanted else f"pip install {distribution}"
