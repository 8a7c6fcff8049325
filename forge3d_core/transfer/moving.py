"""The one call that copies bytes between host arrays, so that a trace can stand in for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np

Copy = Callable[[Any, Any], None]


@attrs.define(eq=False)
class Mover:
    """``copy(target, source)`` is ``np.copyto``; while host copies are traced, what calls and times that."""

    copy: Copy = np.copyto


MOVER = Mover()
"""The one of this process: copies by its worker threads are no device's own."""
