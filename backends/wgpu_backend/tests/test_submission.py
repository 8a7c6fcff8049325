"""Submissions: what their callbacks tell, also when their blocks serve newer ones already."""

from __future__ import annotations

from typing import Any

import numpy as np

from forge3d_core.driver import Upload, poll_until

PATIENCE = 60.0


def settled(rig: Any) -> tuple[Any, Any]:
    """Return a submission that has ended and is not yet known to be complete, and its block."""
    block = rig.block(np.ones(64, np.uint8))
    token = rig.submit(Upload(block, 0, rig.buffer(64), 0, 64))
    rig.driver._lanes.poll()
    assert poll_until(lambda: rig.driver._lanes.poll() or token.settled, PATIENCE)
    return token, block


def test_a_block_that_serves_a_newer_submission_is_no_failure(rig: Any) -> None:
    """One thread has seen it complete, and the block was submitted again; another is still asking."""
    token, block = settled(rig)
    block.signal.statuses.clear()
    assert not token.failed
    assert not token.settled
    block.signal.note()
    assert not token.failed
    assert rig.driver.query(token)


def test_a_map_that_failed_fails_the_submission(rig: Any) -> None:
    token, block = settled(rig)
    block.signal.statuses[:] = [4]
    assert token.settled
    assert token.failed
    block.signal.statuses[:] = [1]
    rig.finish(token)
