"""PyTorch's pageable copies, where it is installed with CUDA."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from forge3d_conformance.speed.contestant import Runner, unknown
from forge3d_core.protocols import Device


class Torch:
    name = "torch"

    def __init__(self) -> None:
        self._torch: Any = import_module("torch")
        self._torch.cuda.init()

    def runner(self, operation: str, nbytes: int) -> Runner:
        torch = self._torch
        wait = torch.cuda.synchronize
        match operation:
            case "to-cuda":
                source = torch.ones(nbytes, dtype=torch.uint8)
                target = torch.empty(nbytes, dtype=torch.uint8, device="cuda")

                def call() -> None:
                    target.copy_(source)
                    wait()

                return Runner(call)
            case "cpu":
                memory = torch.zeros(nbytes, dtype=torch.uint8, device="cuda")
                return Runner(memory.cpu)
        raise unknown(self.name, operation)

    def close(self) -> None:
        self._torch.cuda.empty_cache()


def make(_device: Device) -> Torch:
    return Torch()
