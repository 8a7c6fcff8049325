"""The figures of a pool of device buffers."""

from __future__ import annotations

import attrs

from forge3d_core.presentation import Figures, counted, line
from forge3d_core.units import format_bytes


@attrs.frozen
class BufferPoolStats(Figures):
    """A snapshot of a pool; counts since it was made, sizes in bytes.

    What it holds is what is leased and what is idle: ``bytes_held`` is the sum of the two, and what the
    device's budget counts for it, but for the rounding of the driver.
    """

    hits: int  # acquisitions out of the pool
    misses: int  # acquisitions that made a buffer
    zeroings: int  # hits whose old bytes the device overwrote first
    trimmed: int  # idle buffers given back, by age, pressure or the limit on what is idle
    leases: int  # buffers out now
    bytes_asked: int  # of the buffers out now, as they were asked for
    bytes_leased: int  # of the buffers out now, rounding included
    bytes_idle: int  # of the buffers in, those that the device is still using too
    idle: int

    @property
    def bytes_held(self) -> int:
        """All that the pool has taken from the device and not given back."""
        return self.bytes_leased + self.bytes_idle

    @property
    def bytes_wasted(self) -> int:
        """What rounding to size classes costs now."""
        return self.bytes_leased - self.bytes_asked

    @property
    def fragmentation(self) -> float:
        """The share of what is held that is not in use: idle, or rounding."""
        return 1 - self.bytes_asked / self.bytes_held if self.bytes_held else 0.0

    @property
    def hit_rate(self) -> float:
        """Hits to acquisitions; 0 before the first."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0

    def __repr__(self) -> str:
        return line(
            f"buffer pool stats: {counted(self.leases, 'lease')} of {format_bytes(self.bytes_leased)}",
            f"{self.idle} idle of {format_bytes(self.bytes_idle)}",
            f"{self.hit_rate:.0%} hits",
            f"{self.fragmentation:.0%} fragmentation",
        )
