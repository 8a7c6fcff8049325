"""The limit of a device, by its class and what the machine has left; at any time, up and down."""

from __future__ import annotations

from forge3d_core.memory.host_limits import Advice, fitting_limit
from forge3d_core.memory.host_reader import read_limits
from forge3d_core.memory.process import global_tracker
from forge3d_core.protocols import Device


def fit_budget(device: Device) -> Advice:
    """Set the limit of a device's budget to what fits its class, the machine, the container, and their state.

    Call it again when the program's surroundings change: the limit moves up or down. Lowered below what is
    held it takes nothing away, and refuses until use fits again. Returns the limit and the reason for it.
    Thread-safety: any thread. Raises what ``set_limit`` does.
    """
    held = global_tracker().get_metrics().host_visible_bytes
    advice = fitting_limit(read_limits(), device.info, held)
    device.budget.set_limit(advice.nbytes)
    return advice
