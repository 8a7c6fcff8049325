"""Defects to lay over any backend, one each, naming the clause they break."""

from forge3d_conformance.mutants.registry import Mutant, breaking, mutant, mutants, named
from forge3d_conformance.mutants.wrap import Layer, Proxy, unwrap

__all__ = ["Layer", "Mutant", "Proxy", "breaking", "mutant", "mutants", "named", "unwrap"]
