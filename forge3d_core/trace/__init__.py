"""What a device and its program did, and when: lanes, blocks, waits, fences and host copies."""

from forge3d_core.trace.tap import Tap
from forge3d_core.trace.trace import MAX_EVENTS, Trace
from forge3d_core.trace.traceable import Traceable
from forge3d_core.trace.usage import Usage

__all__ = ["MAX_EVENTS", "Tap", "Trace", "Traceable", "Usage"]
