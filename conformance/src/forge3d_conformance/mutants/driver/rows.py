"""Drivers that get the rows of textures wrong."""

from __future__ import annotations

import attrs

from forge3d_conformance.mutants.driver.layer import changing
from forge3d_core.driver import UploadRows

changing(
    "rows-origin",
    UploadRows,
    "Rows that do not begin in the first column begin one texel before.",
    lambda c: (attrs.evolve(c, origin=(max(0, c.origin[0] - 1), c.origin[1])),),
    breaks="ring.rows",
    because="values differ",
    requires=("textures",),
)
changing(
    "rows-last",
    UploadRows,
    "The last of several rows is lost.",
    lambda c: (attrs.evolve(c, size=(c.size[0], c.size[1] - 1)) if c.size[1] > 1 else c,),
    breaks="ring.rows",
    because="values differ",
    requires=("textures",),
)
