"""Devices whose host arrays are not what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np

from forge3d_conformance.mutants.registry import mutant
from forge3d_conformance.mutants.wrap import Layer


@mutant("device.host-array-unbudgeted", breaks="device.host-array", because="in the budget")
class HostArrayUnbudgeted(Layer):
    """The memory is any."""

    class Device(Layer.Device):
        def host_array(self, shape: Any, dtype: Any = "u1") -> Any:
            return np.zeros(shape, dtype)


@mutant("device.host-array-kept", breaks="device.host-array", because="still counts")
class HostArrayKept(Layer):
    """What is made stays."""

    class Device(Layer.Device):
        def host_array(self, shape: Any, dtype: Any = "u1") -> Any:
            array = self.real.host_array(shape, dtype)
            self.__dict__.setdefault("kept", []).append(array)
            return array[:]


@mutant("device.host-array-dirty", breaks="device.host-array", because="not zero")
class HostArrayDirty(Layer):
    """It shows what was there."""

    class Device(Layer.Device):
        def host_array(self, shape: Any, dtype: Any = "u1") -> Any:
            array = self.real.host_array(shape, dtype)
            array[...] = 1
            return array
