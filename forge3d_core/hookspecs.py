"""The hooks that a plugin may implement. pluggy is for discovery and lifecycle, never per operation.

A plugin is a module or object named by an entry point of the group ``forge3d.backends``; the entry
point's name is the backend's name.
"""

from __future__ import annotations

import pluggy

from forge3d_core.protocols import ApiRange, ApiVersion, Backend, Device

PROJECT = "forge3d"
ENTRY_POINT_GROUP = "forge3d.backends"
API = ApiRange(oldest=ApiVersion(1, 0), newest=ApiVersion(1, 0))
"""The plugin API versions that this core understands."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def forge3d_backend() -> Backend:  # type: ignore[empty-body]
    """Return the plugin's backend. Required; must not import the GPU library."""


@hookspec
def forge3d_device_opened(device: Device) -> None:
    """Called after ``open_device`` opened a device, of any backend. Optional."""


@hookspec
def forge3d_device_closed(info: object) -> None:
    """Called with the ``DeviceInfo`` after a device that ``open_device`` opened was closed. Optional."""
