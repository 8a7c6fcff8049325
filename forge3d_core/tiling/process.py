"""An operation on an array of any size, through a bounded amount of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forge3d_core.errors import UsageError
from forge3d_core.pipeline.stream import stream
from forge3d_core.protocols import Buffer, CommandList, Device, Kernel
from forge3d_core.tiling.plan import Tile, TilePlan, Tiling
from forge3d_core.tiling.quality import available_bytes

TileWork = Callable[[CommandList, Buffer, Buffer, Tile], object]
Params = Sequence[float] | Callable[[Tile], Sequence[float]]
Progress = Callable[[int, int], object]

SHARE = 0.5
"""Of the memory that is left, a plan that is not given takes half."""


class Source(Protocol):
    """What is read by tiles: a numpy array, a memmap, or anything that slices to one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, where: Any, /) -> Any: ...


class Target(Protocol):
    """What results are written to by tiles."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, where: Any, /) -> Any: ...

    def __setitem__(self, where: Any, value: Any, /) -> None: ...


def process(
    device: Device,
    source: Source,
    work: Kernel | TileWork,
    *,
    out: Target | None = None,
    plan: TilePlan | None = None,
    params: Params = (),
    threads: int | tuple[int, ...] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Run ``work`` on every tile of ``source``, write what comes of it to ``out``, and return that.

    ``source`` and ``out`` are arrays, memmaps, or anything else that slices: a tile at a time is read and
    written, so neither need fit into memory. ``out`` has the shape of the source; by default it is made.
    ``plan`` says how it is cut, by default so that half of the memory that is left is used; see
    :class:`Tiling` for halos and dtypes.

    ``work`` is a kernel that binds a tile with its halo and the tile's result, run over ``threads`` (default:
    one for each item of the result) with ``params``, or what ``params`` returns for a :class:`Tile`; or a
    function that records: ``work(commands, source, target, tile)``. All tiles have one shape: what a kernel
    makes of a tile beyond the ends of the array is not written.

    ``progress(done, total)`` is called after each tile; what it raises ends the run, as Ctrl-C does: then
    all that the run had taken is given back, and ``out`` has the tiles that were done. Raises what
    :func:`forge3d_core.stream` raises; an error has an attribute ``frame``, the index of its tile.

    Thread-safety: each call has its own memory; ``out`` is the caller's to keep to one run.
    """
    chosen = _plan_for(device, source) if plan is None else plan
    _check(chosen, source, out)
    target: Any = np.empty(source.shape, chosen.result_dtype) if out is None else out
    tiles = list(chosen)
    record = _recorder(chosen, work, params, threads)

    def into(index: int) -> NDArray[Any] | None:
        return _in_place(target, tiles[index])

    with stream(
        device,
        _frames(source, chosen, tiles),
        lambda commands, a, b, index: record(commands, a, b, tiles[index]),
        depth=chosen.depth,
        result=(chosen.result_dtype, chosen.tile),
        into=into,  # type: ignore[arg-type]
    ) as results:
        for tile, result in zip(tiles, results, strict=True):
            if _in_place(target, tile) is None:
                target[tile.slices] = result[tile.own]
            if progress is not None:
                progress(tile.index + 1, len(tiles))
    return target


def _plan_for(device: Device, source: Source) -> TilePlan:
    nbytes = int(available_bytes(device) * SHARE)
    return Tiling(source.shape, source.dtype).fit(nbytes, most=device.limits.max_buffer_size)


def _check(plan: TilePlan, source: Source, out: Target | None) -> None:
    if (tuple(source.shape), np.dtype(source.dtype)) != (plan.tiling.shape, np.dtype(plan.tiling.dtype)):
        raise UsageError(
            f"the plan is for {plan.tiling.dtype} of shape {plan.tiling.shape}, and the source is "
            f"{np.dtype(source.dtype)} of shape {tuple(source.shape)}"
        )
    if out is not None and (tuple(out.shape), np.dtype(out.dtype)) != (plan.tiling.shape, plan.result_dtype):
        raise UsageError(
            f"out is {np.dtype(out.dtype)} of shape {tuple(out.shape)}; the result is {plan.result_dtype} of "
            f"shape {plan.tiling.shape}"
        )


def _recorder(
    plan: TilePlan, work: Kernel | TileWork, params: Params, threads: int | tuple[int, ...] | None
) -> TileWork:
    """Return what records a tile's work."""
    if callable(work):
        if threads is not None or params:
            raise UsageError("threads and params are a kernel's; a function says so when it records")
        return work
    kernel = work
    over = int(np.prod(plan.tile, dtype=np.int64)) if threads is None else threads

    def record(commands: CommandList, source: Buffer, target: Buffer, tile: Tile) -> None:
        commands.dispatch(
            kernel, [source, target], params(tile) if callable(params) else params, threads=over
        )

    return record


def _frames(source: Source, plan: TilePlan, tiles: list[Tile]) -> Iterator[NDArray[Any]]:
    """Yield each tile with its halo, all of one shape; a view of the source where that is enough."""
    shape, halos = plan.tiling.shape, plan.tiling.halos
    for tile in tiles:
        sides, slices = [], []
        for origin, extent, wanted, halo, size in zip(
            tile.origin, tile.extent, tile.shape, halos, shape, strict=True
        ):
            begin, end = origin - halo, origin + extent + halo
            slices.append(slice(max(begin, 0), min(end, size)))
            sides.append((max(-begin, 0), max(end - size, 0), wanted - extent))
        yield _padded(source, slices, sides, plan)


def _padded(
    source: Source, slices: list[slice], sides: list[tuple[int, int, int]], plan: TilePlan
) -> NDArray[Any]:
    """Return a part of the source, with what is beyond its ends, and then filled up to the tile's shape."""
    part = np.asarray(source[tuple(slices)])
    beyond = [(before, after) for before, after, _ in sides]
    if any(map(any, beyond)):
        part = np.pad(part, beyond, mode=plan.tiling.edge)
    rest = [(0, fill) for _, _, fill in sides]
    return np.pad(part, rest) if any(map(any, rest)) else part


def _in_place(target: Any, tile: Tile) -> NDArray[Any] | None:
    """Return the part of the target that a result can be read into directly, or None."""
    if not isinstance(target, np.ndarray) or tile.extent != tile.shape:
        return None
    part = target[tile.slices].view(np.ndarray)
    flags = part.flags
    return part if flags.c_contiguous and flags.writeable and flags.aligned else None
