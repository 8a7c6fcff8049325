"""The main job: a terrain goes up, is shaded and comes home."""

from __future__ import annotations

from collections.abc import Mapping

from forge3d_conformance.speed.contestant import Runner
from forge3d_conformance.speed.ours.operands import Maker, Operands
from forge3d_conformance.speed.terrain import blank, check, hills
from forge3d_core.demo import Light, TerrainStream, bands


def _demo(on: Operands, nbytes: int) -> Runner:
    terrain = hills(nbytes)
    plan, picture = list(bands(terrain)), blank(terrain)
    stream = on.stack.enter_context(TerrainStream(on.device, terrain, plan, Light(), buffer_size="16 MiB"))
    stream.run(picture)
    check(plan, terrain, picture)
    return Runner(lambda: stream.run(picture))


DEMO: Mapping[str, Maker] = {"demo": _demo}
