"""Which mutants there are and which clause each of them breaks."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import attrs

from forge3d_conformance.errors import CatalogueError
from forge3d_conformance.mutants.wrap import Layer

L = TypeVar("L", bound=type[Layer])


@attrs.frozen
class Mutant:
    """One defect. ``because`` must match ``ErrorType: message`` of the failure that kills it.

    ``requires`` names capabilities without which the defect could not show, and is no defect.
    """

    name: str
    breaks: str
    because: re.Pattern[str]
    layer: type[Layer]
    requires: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """The defect in one sentence: the first line of its docstring."""
        return (self.layer.__doc__ or self.name).strip().splitlines()[0]


_registry: dict[str, Mutant] = {}


def mutant(name: str, *, breaks: str, because: str, requires: tuple[str, ...] = ()) -> Callable[[L], L]:
    """Register the decorated :class:`Layer` as the mutant ``name`` of the clause ``breaks``."""

    def register(layer: L) -> L:
        if name in _registry and _registry[name].layer.__qualname__ != layer.__qualname__:
            raise CatalogueError(f"two mutants are called {name!r}; names are unique")
        _registry[name] = Mutant(name, breaks, re.compile(because, re.DOTALL), layer, requires)
        return layer

    return register


def mutants() -> tuple[Mutant, ...]:
    """Return every mutant that ships with the suite, by name."""
    _import_all()
    return tuple(sorted(_registry.values(), key=lambda mutant: mutant.name))


@cache
def _import_all() -> None:
    package = importlib.import_module(__name__.rpartition(".")[0])
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def breaking(clause: str) -> tuple[Mutant, ...]:
    """Return the mutants that break ``clause``."""
    return tuple(mutant for mutant in mutants() if mutant.breaks == clause)


def named(name: str, module: str) -> Mutant:
    """Return the mutant ``name``, importing ``module``, where its layer is written, and more only at need."""
    importlib.import_module(module)
    if name not in _registry:  # a layer that a function made says where the function is written
        mutants()
    return _registry[name]
