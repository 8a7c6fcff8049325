"""Native errors at the edge; CuPy makes its own error objects without a device."""

from __future__ import annotations

import pytest

from forge3d_core.errors import DeviceLost, ForgeError, KernelError, OutOfDeviceMemory
from forge3d_cuda.errors import status_of, translate

runtime = pytest.importorskip("cupy", reason="CuPy is not installed").cuda.runtime


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (2, OutOfDeviceMemory),
        (700, DeviceLost),
        (214, DeviceLost),
        (719, DeviceLost),
        (46, DeviceLost),
        (9, KernelError),
        (701, KernelError),
        (1, ForgeError),
        (400, ForgeError),
    ],
)
def test_status(status: int, kind: type[ForgeError]) -> None:
    native = runtime.CUDARuntimeError(status)
    error = translate(native, "copying 5 bytes")
    assert type(error) is kind
    assert "copying 5 bytes" in str(error)
    assert str(native) in str(error)


def test_our_own_errors_pass() -> None:
    error = KernelError("no")
    assert translate(error, "compiling") is error


def test_only_cuda_errors_have_a_status() -> None:
    assert status_of(runtime.CUDARuntimeError(35)) == 35
    assert status_of(ValueError("35")) is None
