"""Arrays that somebody kept when the device closed, on every backend, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

KEPT = """
import gc, sys
import forge3d_core as forge3d

nbytes = 16 << 20  # so much is unmapped from the process when it is freed
device = forge3d.open_device(sys.argv[1])
buffer = device.create_buffer(nbytes)
device.submit(device.command_list().fill(buffer, 7))
ring = device.staging_ring(ring_count=1, buffer_size=nbytes)
pool = device.readback_pool(max_pending_ops=1, buffer_size=nbytes)
slot, lease = ring.allocate(nbytes), pool.read(buffer).lease()
slot.view[:] = 3
lent, staged, home = lease.array, slot.view[1:], lease.array[1:].reshape(-1, 3)
if sys.argv[2] == "raises":
    try:
        with device:
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
else:
    device.close()
del device, buffer, ring, pool, slot, lease
gc.collect()
lent.sum()  # empty by now, or still what it was
print(staged.min(), staged.max(), home.min(), home.max())
staged[:] = 4
print(staged.min(), staged.max(), home.flags.writeable)
del lent, staged, home
gc.collect()
"""


@pytest.mark.parametrize("ending", ["closes", "raises"])
def test_what_was_derived_from_a_slice_or_a_lease_stays_readable(backend: str, ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KEPT, backend, ending],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, ["3 3 7 7", "4 4 False"], "")
