"""What probing a plugin came to, as plain data: it crosses processes, and it is kept for a while."""

from __future__ import annotations

import json
from typing import Any

from forge3d_core.errors import BackendError, PluginFailed
from forge3d_core.plugins.devices import MAX_DEVICES, device_data, device_from
from forge3d_core.plugins.isolation import KINDS
from forge3d_core.printable import escaped
from forge3d_core.protocols import DeviceInfo


def encoded(outcome: tuple[DeviceInfo, ...] | BackendError) -> dict[str, Any]:
    """Return devices, or the error that tells why there are none, as data for JSON."""
    if not isinstance(outcome, BackendError):
        return {"devices": [device_data(info) for info in outcome]}
    return {"error": {"kind": type(outcome).__name__, "message": str(outcome), "fix": outcome.fix}}


def decoded(told: Any, name: str) -> tuple[DeviceInfo, ...]:
    """Return the devices in what :func:`encoded` made, or raise the :class:`BackendError` in it.

    Every field is checked and every text is made printable: the data may come from anywhere. Raises
    :class:`PluginFailed` for what is no answer.
    """
    try:
        told = json.loads(told) if isinstance(told, bytes) else told
        if error := told.get("error"):
            message, fix = escaped(str(error["message"])), error["fix"]
            raised = KINDS[error["kind"]](message, backend=name, fix=escaped(str(fix)) if fix else None)
        else:
            devices = list(told["devices"])[: MAX_DEVICES + 1]
            raised = None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PluginFailed(f"probing {name} gave no answer that can be read", backend=name) from error
    if raised is not None:
        raise raised
    return tuple(device_from(device, name) for device in devices)
