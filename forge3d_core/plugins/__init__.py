"""Plugins: found without importing them, judged by policy, loaded one at a time and in isolation."""

from forge3d_core.plugins.discovery import Candidate, discover
from forge3d_core.plugins.isolation import Hung, contained, isolated
from forge3d_core.plugins.loading import Plugin, import_failure, load
from forge3d_core.plugins.policy import Policy, Refusal
from forge3d_core.plugins.spec import AUTO, BackendSpec, normalise
from forge3d_core.plugins.state import State, Status

__all__ = [
    "AUTO",
    "BackendSpec",
    "Candidate",
    "Hung",
    "Plugin",
    "Policy",
    "Refusal",
    "State",
    "Status",
    "contained",
    "discover",
    "import_failure",
    "isolated",
    "load",
    "normalise",
]
