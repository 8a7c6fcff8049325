"""The suite's table of texture formats beside the core's: made apart, and the same."""

from __future__ import annotations

import pytest

from forge3d_conformance.texture_table import LAYOUTS
from forge3d_core.formats import FORMATS, MOST_BYTES, TextureShape


def test_both_have_the_same_formats() -> None:
    assert LAYOUTS.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_both_count_the_same_bytes(name: str) -> None:
    ours, layout = FORMATS[name], LAYOUTS[name]
    assert layout.block == ours.block
    assert layout.least <= ours.block_bytes <= MOST_BYTES.get(name, ours.block_bytes) == layout.most
    for size in ((13, 7), (60, 60), (1, 1)):
        levels = max(size).bit_length()
        shape = TextureShape(*size, mip_levels=levels)
        assert shape.nbytes(ours) == layout.nbytes(*size, 1, levels)[1]
