"""The folder in which processes tell: the user's alone, and what is read from it is data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forge3d_core.errors import UsageError
from forge3d_core.status.board import Board, running
from forge3d_core.status.figures import MAX_BYTES, ProcessStatus, decoded, encoded

POSIX = pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes and owners are POSIX's")


def status(pid: int, *, program: str = "program") -> ProcessStatus:
    return ProcessStatus(pid, program, 1.5, False, 1, 2, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "board"
    path.mkdir(0o700)
    return path


def test_what_is_told_is_what_is_read(folder: Path) -> None:
    board = Board(folder, False)
    told = [status(3), status(20, program="[bold]\x1b[2J")]
    for one in reversed(told):
        board.write(one)
    board.write(told[0])
    assert board.read() == told
    assert decoded(encoded(told[1])) == told[1]
    board.remove(3)
    assert board.read() == told[1:]


def test_what_is_none_of_ours_is_passed_over(folder: Path) -> None:
    board = Board(folder, False)
    board.write(status(1))
    (folder / "2.json").write_bytes(b"{")
    (folder / "3.json").write_bytes(b"[1, 2]")
    (folder / "4.json").write_bytes(b'{"pid": "many"}')
    (folder / "5.json").write_bytes(encoded(status(5)) + b" " * MAX_BYTES)
    (folder / "6.json").mkdir()
    (folder / "7.json").write_bytes(b"[" * 200_000)
    assert board.read() == [status(1)]


def test_the_shared_board_has_those_that_run(tmp_path: Path) -> None:
    board = Board(tmp_path / "shared", True)
    board.prepare()
    board.prepare()
    gone = 2**22 + 1  # more than Linux gives to any process
    assert not running(gone)
    for pid in (os.getpid(), gone):
        board.write(status(pid))
    assert board.read() == [status(os.getpid())]
    assert [path.name for path in board.folder.iterdir()] == [f"{os.getpid()}.json"]


@POSIX
def test_a_folder_that_others_may_enter_is_refused(folder: Path, tmp_path: Path) -> None:
    for mode in (0o750, 0o707, 0o777):
        folder.chmod(mode)
        with pytest.raises(UsageError, match="alone"):
            Board(folder, True).prepare()
        with pytest.raises(UsageError, match="alone"):
            Board(folder, False).read()
    folder.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(UsageError, match="no folder"):
        Board(link, True).prepare()
    with pytest.raises(UsageError, match="no folder"):
        Board(tmp_path / "none", False).check()


@POSIX
def test_files_are_the_users_alone_and_no_link_is_written_through(folder: Path, tmp_path: Path) -> None:
    board = Board(folder, False)
    board.write(status(9))
    assert (folder / "9.json").stat().st_mode & 0o777 == 0o600
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / "8.new").symlink_to(victim)
    with pytest.raises(OSError, match=r"8\.new"):
        board.write(status(8))
    assert victim.read_text() == "mine"


def test_the_environment_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for unset in ("", " ", "0"):
        monkeypatch.setenv("FORGE3D_TOP", unset)
        assert Board.asked_for() is None
    monkeypatch.setenv("FORGE3D_TOP", str(tmp_path))
    assert Board.asked_for() == Board(tmp_path, False)
    monkeypatch.setenv("FORGE3D_TOP", "1")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    board = Board.asked_for()
    assert board is not None
    assert board.shared
    assert board.folder.parent == tmp_path
