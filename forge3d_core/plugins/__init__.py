"""Plugins: found without importing them, judged by policy, probed apart, loaded one at a time."""

from forge3d_core.plugins.cache import ProbeCache
from forge3d_core.plugins.discovery import Candidate, discover
from forge3d_core.plugins.isolation import Hung, contained, isolated
from forge3d_core.plugins.loading import Plugin, import_failure, load
from forge3d_core.plugins.look import Look, only_here
from forge3d_core.plugins.policy import PERMISSIVE, Policy, Refusal
from forge3d_core.plugins.spec import AUTO, BackendSpec, is_name, listed_name, normalise
from forge3d_core.plugins.state import State, Status

__all__ = [
    "AUTO",
    "PERMISSIVE",
    "BackendSpec",
    "Candidate",
    "Hung",
    "Look",
    "Plugin",
    "Policy",
    "ProbeCache",
    "Refusal",
    "State",
    "Status",
    "contained",
    "discover",
    "import_failure",
    "is_name",
    "isolated",
    "listed_name",
    "load",
    "normalise",
    "only_here",
]
