"""Drivers that keep what they should give back."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import numpy as np

from forge3d_conformance.mutants.driver.layer import MutantDriver, driver_mutant

KEPT: list[Any] = []


@driver_mutant("free-keeps", breaks="device.steady", because="MiB of memory behind")
class FreeKeeps(MutantDriver):
    """Memory that was given back stays until the process ends."""

    def free(self, native: Any) -> Any:
        KEPT.append(np.ones(1 << 18, np.uint8))
        return self.driver.free(native)


@driver_mutant("retire-keeps", breaks="device.steady", because="blocks of Python's memory")
class RetireKeeps(MutantDriver):
    """A token leaves its event behind."""

    def retire(self, token: Any) -> None:
        KEPT.append([threading.Event() for _ in range(2)])
        self.driver.retire(token)


@driver_mutant("submission-starts-a-thread", breaks="device.steady", because="Python threads from")
class SubmissionStartsAThread(MutantDriver):
    """A thread for each buffer, which never ends."""

    threads: ClassVar[list[threading.Thread]] = []

    def allocate_buffer(self, nbytes: int) -> Any:
        thread = threading.Thread(target=threading.Event().wait, daemon=True)
        thread.start()
        self.threads.append(thread)
        return self.driver.allocate_buffer(nbytes)


@driver_mutant(
    "lost-keeps-a-thread", breaks="device.reopen", because="that were lost", requires=("hold", "lose")
)
class LostKeepsAThread(MutantDriver):
    """A device that was lost waits for ever for a completion that never comes."""

    def close(self, timeout: float) -> bool | None:
        try:
            self.driver.check()
        except Exception:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super().close(timeout)


def _keeping(name: str, call: str, about: str, requires: tuple[str, ...] = ()) -> None:
    class Keeping(MutantDriver):
        def __getattr__(self, member: str) -> Any:
            found = super().__getattr__(member)
            if member == call:
                KEPT.append([object() for _ in range(8)])
            return found

    Keeping.__doc__ = about
    Keeping.__name__ = Keeping.__qualname__ = f"Keeping[{name}]"
    because = "blocks of Python's memory"
    driver_mutant(f"{name}-keeps", breaks="device.steady", because=because, requires=requires)(Keeping)


_keeping("texture", "allocate_texture", "A texture leaves something behind.", ("textures",))
_keeping("block", "allocate_block", "Host-visible memory leaves something behind.")
_keeping("adopt", "adopt", "Adopted memory leaves something behind.", ("adopt",))
_keeping("wait", "wait", "A wait leaves its event behind.")
