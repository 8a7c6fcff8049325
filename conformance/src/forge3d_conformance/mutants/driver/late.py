"""Drivers whose token is complete before the work is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant
from forge3d_core.driver import Copy, Dispatch, Download, DownloadRows, Fill, Upload, UploadRows

LATE = 0.005
"""Seconds by which the work comes after its token."""

KINDS: dict[str, tuple[type, str, tuple[str, ...]]] = {
    "upload": (Upload, "ring.payload", ()),
    "upload-rows": (UploadRows, "ring.rows", ("textures",)),
    "download": (Download, "readback.exact", ()),
    "download-rows": (DownloadRows, "readback.exact", ("textures",)),
    "dispatch": (Dispatch, "fence.truth", ()),
    "fill": (Fill, "fence.truth", ()),
    "copy": (Copy, "fence.truth", ()),
}


class Late(MutantDriver):
    """Submits what has a command of ``kind`` a little after it has told of its end."""

    kind: type = Fill

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.lock = threading.Lock()
        self.coming: list[threading.Timer] = []

    def submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> Any:
        if not any(isinstance(command, self.kind) for command in commands):
            with self.lock:
                return self.driver.submit(lane, commands, after)
        with self.lock:
            token = self.driver.submit(lane, (), after)
        timer = threading.Timer(LATE, self._submit, (lane, [*commands], (token,)))
        timer.daemon = True
        timer.start()
        self.coming.append(timer)
        return token

    def _submit(self, lane: str, commands: Sequence[Any], after: Sequence[Any]) -> None:
        with self.lock:
            self.driver.submit(lane, commands, after)

    def close(self, timeout: float) -> bool | None:
        for timer in self.coming:
            timer.join()
        return super().close(timeout)


for _name, (_kind, _clause, _requires) in KINDS.items():
    _late = type(
        f"Late[{_name}]",
        (Late,),
        {"kind": _kind, "__doc__": f"A {_kind.__name__} ends a few milliseconds after its token."},
    )
    driver_mutant(f"late-{_name}", breaks=_clause, because="differ|done|memory", requires=_requires)(_late)
