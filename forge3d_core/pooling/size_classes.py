"""Size classes: sixteen to each power of two, so that rounding adds at most 1/16."""

from __future__ import annotations

STEPS = 16
"""Classes to each power of two. Rounding to powers of two alone would waste up to a half."""


def capacity_of(nbytes: int, granule: int = 16) -> int:
    """Return the size of the class that ``nbytes`` (from 1) belong to.

    It is a multiple of ``granule``, a power of two as alignments are, and less than ``nbytes`` +
    max(``nbytes`` / 16, ``granule``). A class is its own: the capacity of a capacity is that capacity.
    """
    step = max(granule, _floor_power(nbytes) // STEPS)
    return -(-nbytes // step) * step


def _floor_power(nbytes: int) -> int:
    return int(1 << (nbytes.bit_length() - 1))
