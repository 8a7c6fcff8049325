"""Which peers a backend is measured beside: those whose library is installed and works here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from forge3d_conformance.speed.contestant import Contestant
from forge3d_core.protocols import Device

_ANYWHERE = {"numpy": "numpy_copies", "python": "python_object"}

PEERS: dict[str, dict[str, str]] = {
    "host": {"thread": "host_thread", **_ANYWHERE},
    "wgpu": {"wgpu-py": "wgpu_py", **_ANYWHERE},
    "cuda": {"cupy": "cupy", "torch": "torch", **_ANYWHERE},
}
"""By backend, each peer's name and the module beside this one that makes it."""


def find_peers(backend: str, device: Device) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return the peers of ``backend`` that work here, and of each other one why it does not."""
    found: dict[str, Contestant] = {}
    absent: dict[str, str] = {}
    for name, module in PEERS.get(backend, {}).items():
        make: Callable[[Device], Contestant] = import_module(f"forge3d_conformance.speed.peers.{module}").make
        try:
            found[name] = make(device)
        except Exception as error:  # a library of others, in whatever state it is
            absent[name] = f"{type(error).__name__}: {error}"
    return found, absent
