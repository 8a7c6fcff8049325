"""The picture, the text, and a notebook's view of a trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from forge3d_core import errors
from forge3d_core.device.device import AssembledDevice
from forge3d_core.trace import Trace, picture
from tests.trace.test_trace import work

PNG = b"\x89PNG"


@pytest.fixture
def trace(device: AssembledDevice) -> Trace:
    with device.trace() as trace:
        work(device)
    return trace


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


def test_it_is_drawn(trace: Trace, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib, which is optional")
    assert trace.plot(tmp_path / "t.png").startswith(PNG)
    assert (tmp_path / "t.png").read_bytes().startswith(PNG)
    assert trace.plot(window=(0, 1)).startswith(PNG)
    with pytest.raises(errors.UsageError, match="window"):
        trace.plot(window=(3, 1))
    told: Any = trace._repr_png_()
    assert told.startswith(PNG)
    assert "<img src='data:image/png;base64," in trace._repr_html_()


def test_an_empty_one_is_drawn(device: AssembledDevice) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib, which is optional")
    with device.trace() as trace:
        pass
    assert trace.plot().startswith(PNG)
    assert "0.000 ms" in trace.summary()


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_it_says_what_to_install_and_tells_in_text(trace: Trace) -> None:
    with pytest.raises(errors.MissingDependency, match=r"pip install 'forge3d-core\[trace\]'"):
        trace.plot()
    assert trace._repr_png_() is None
    told = trace._repr_html_()
    assert told.startswith("<pre>")
    assert "lane compute" in told


def test_rows_are_threads_then_lanes_then_blocks(trace: Trace) -> None:
    names = [track.name for track in picture.tracks(trace.document())]
    lanes = [names.index(f"lane {name}") for name in ("upload", "compute", "download")]
    assert lanes == sorted(lanes)
    assert names.index("MainThread") < lanes[0]
    assert max(lanes) < min(place for place, name in enumerate(names) if " block " in name)


def test_what_was_saved_is_loaded_and_nothing_else(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace.save(path)
    assert picture.load(path) == trace.document()
    path.write_text('{"traceEvents": []}')
    for wrong in (path, tmp_path / "none.json"):
        with pytest.raises(errors.UsageError, match="no trace"):
            picture.load(wrong)


def test_before_it_begins_it_shows_itself_in_a_line(device: AssembledDevice) -> None:
    trace = device.trace()
    assert repr(trace) == "<trace of 1 device, 0 submissions, not started>"
    assert "not started" in trace._repr_html_()
    assert trace._repr_png_() is None
