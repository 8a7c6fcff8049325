"""Backends whose selectors name other devices than they say."""

from __future__ import annotations

from typing import Any

import attrs

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer
from forge3d_core.errors import NoDevice


@mutant("device.selector-from-the-end", breaks="device.selectors", because="nothing was raised")
class SelectorFromTheEnd(Layer):
    """A selector indexes a list of devices: -1 opens the last."""

    class Backend(Layer.Backend):
        def open(self, selector: str = "", *options: Any) -> Any:
            return self.real.open("" if selector == "-1" else selector, *options)


@mutant("device.selector-opens-any", breaks="device.selectors", because="nothing was raised")
class SelectorOpensAny(Layer):
    """A selector that names no device opens the best there is."""

    class Backend(Layer.Backend):
        def open(self, selector: str = "", *options: Any) -> Any:
            try:
                return self.real.open(selector, *options)
            except NoDevice:
                return self.real.open("", *options)


@mutant("device.selector-of-another", breaks="device.selectors", because="opened a device that says|opened '")
class SelectorOfAnother(Layer):
    """What a probe lists has other selectors than the devices that open."""

    class Backend(Layer.Backend):
        def probe(self) -> Any:
            return [attrs.evolve(info, name=f"{info.name} (listed)") for info in self.target.probe()]
