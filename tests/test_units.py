from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge3d_core.errors import UsageError
from forge3d_core.units import GIB, KIB, MIB, align_up, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        (0, 0),
        (65536, 65536),
        (np.int64(7), 7),
        ("0", 0),
        ("65536", 65536),
        ("4 MiB", 4 * MIB),
        ("4MiB", 4 * MIB),
        ("  4  mib ", 4 * MIB),
        ("1.5GB", 1_500_000_000),
        (".5 KiB", 512),
        ("2 GB", 2_000_000_000),
        ("1 TiB", 1024 * GIB),
        ("3 b", 3),
        ("1.0", 1),
    ],
)
def test_sizes_as_people_write_them(text: int | str, nbytes: int) -> None:
    size = parse_bytes(text)
    assert size == nbytes
    assert type(size) is int


@pytest.mark.parametrize(
    "text",
    [-1, True, 1.5, None, b"4", "", "MiB", "4 MiBs", "-4 MiB", "1e6", "0.3 B", "1.5", "٤ MiB", "4 4", "nan"],
)
def test_what_is_no_size_is_said(text: Any) -> None:
    with pytest.raises(UsageError, match=r"size|whole number"):
        parse_bytes(text)


def test_a_large_size_in_text_is_exact() -> None:
    assert parse_bytes("9007199254740993") == 9007199254740993  # no float has this value


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (KIB, "1 KiB"),
        (1023, "1023 B"),
        (4 * MIB, "4 MiB"),
        (GIB * 5 // 4, "1.25 GiB"),
    ],
)
def test_sizes_for_people(nbytes: int, text: str) -> None:
    assert format_bytes(nbytes) == text


@given(st.integers(0, 1 << 60), st.sampled_from([1, 4, 64, 256, 3]))
def test_align_up_is_the_least_multiple(value: int, alignment: int) -> None:
    up = align_up(value, alignment)
    assert up % alignment == 0
    assert value <= up < value + alignment
