"""Sharing a device with libraries that use wgpu-py's default one, as pygfx does."""

from __future__ import annotations

from typing import Any

import wgpu

from forge3d_core.errors import StateError, UsageError
from forge3d_core.protocols import Device


class _OneDevice(wgpu.GPUAdapter):  # type: ignore[misc]
    """An adapter in wgpu-py's eyes, which has one device, made already."""

    def __init__(self, native: Any) -> None:  # all that is asked of it is below
        self._native = native

    def __del__(self) -> None:
        """Count nothing: wgpu-py's own counts are of what it has made."""

    @property
    def features(self) -> Any:
        return self._native.features

    def request_device_sync(self, **_: Any) -> Any:
        return self._native


def make_default(device: Device) -> None:
    """Make ``device`` what ``wgpu.get_default_device()`` returns, so that pygfx and others draw with it.

    Call it before such a library has made the default device, so before the first renderer. Raises
    :class:`UsageError` for a device that lacks a feature which such a library has asked for: open it with
    ``open_device("wgpu", features=[...])``; and :class:`StateError` where there is a default device.
    """
    native = device.native
    if not isinstance(native, wgpu.GPUDevice):
        raise UsageError(f"{device!r} is no device of wgpu")
    helper = wgpu.utils.device.helper
    asked = helper._device_kwargs.get("required_features", set())
    if lacking := sorted(asked - native.features):
        raise UsageError(
            f"the default device must have {', '.join(lacking)}; open_device('wgpu', features={lacking})"
        )
    try:
        wgpu.preconfigure_default_device("forge3d", adapter=_OneDevice(native))
    except RuntimeError as error:
        raise StateError(
            "wgpu-py has a default device already; make_default comes first, or adopt that: "
            "adopt_device(wgpu.get_default_device(), 'wgpu')"
        ) from error
