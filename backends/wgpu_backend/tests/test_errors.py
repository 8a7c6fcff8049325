"""Native errors become forge3d's, with a text that helps."""

from __future__ import annotations

import pytest

from forge3d_core.errors import DeviceLost, ForgeError, KernelError, OutOfDeviceMemory

wgpu = pytest.importorskip("wgpu", reason="wgpu-py is not installed")

FRAMED = "Validation Error\n\nCaused by:\n  In wgpuCommandEncoderFinish\n    Copy overruns the buffer  \n"


@pytest.mark.parametrize(
    ("native", "expected", "says"),
    [
        (wgpu.GPUValidationError(FRAMED), KernelError, "while testing: .*\n.*Copy overruns the buffer$"),
        (
            wgpu.GPUOutOfMemoryError("Not enough memory left."),
            OutOfDeviceMemory,
            "no memory left while testing",
        ),
        (
            wgpu.GPUValidationError(
                "Validation Error\n\nCaused by:\n  In wgpuDeviceCreateTexture\n    Not enough memory left.\n"
            ),
            OutOfDeviceMemory,
            "no memory left while testing",
        ),
        (wgpu.GPUValidationError("Parent device is lost"), DeviceLost, "open another"),
        (wgpu.GPUInternalError("Device lost"), DeviceLost, "open another"),
    ],
)
def test_translation(native: Exception, expected: type[ForgeError], says: str) -> None:
    from forge3d_wgpu.errors import NativeErrors

    with pytest.raises(expected, match=says), NativeErrors("testing", KernelError):
        raise native


def test_other_errors_pass() -> None:
    from forge3d_wgpu.errors import NativeErrors

    with pytest.raises(ZeroDivisionError), NativeErrors("testing"):
        raise ZeroDivisionError


def test_a_scope_that_an_interrupt_left_open_hears_nothing_of_later_calls() -> None:
    from wgpu.backends.wgpu_native import _api

    from forge3d_wgpu.errors import NativeErrors

    stack = _api.error_handler._get_proxy_stack()
    outer = NativeErrors("failing")
    with outer:
        NativeErrors("left open").__enter__()
    assert not stack
    with pytest.raises(ForgeError, match="failing"), outer:
        outer.message, outer.type = "no", "Validation"
