from __future__ import annotations

import sys
import threading
import weakref
from collections import ChainMap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import StateError, UsageError, ViewHeld
from forge3d_core.lifetime.hold import Users
from forge3d_core.memory import views
from forge3d_core.memory.views import Loan, byte_dtype


def test_a_lent_array_is_the_memory_itself() -> None:
    memory = np.zeros(16, np.uint8)
    loan = Loan(memory, writable=True)
    loan.array("u2", (2, 4))[1, 3] = 0x0201
    assert memory[14:].tolist() == [1, 2]


def test_read_only_memory_stays_read_only() -> None:
    lent = Loan(np.zeros(4, np.uint8), writable=False).array()
    with pytest.raises(ValueError, match="read-only"):
        lent[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        lent.flags.writeable = True


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (None, (5,)),
        (3, (3,)),
        ((2, 2), (2, 2)),
        ((), ()),
        ((0,), (0,)),
        ((5, 0), (5, 0)),
        ((0, 9), (0, 9)),
        ([1, 5], (1, 5)),
    ],
)
def test_shapes_that_fit(shape: Any, expected: tuple[int, ...]) -> None:
    lent = Loan(np.arange(22, dtype=np.uint8), writable=True).array("u4", shape)
    assert lent.shape == expected
    assert lent.size == 0 or lent.flat[0] == np.arange(4, dtype=np.uint8).view("u4")[0]


@pytest.mark.parametrize(
    "shape", [6, (2, 3), (-1,), (2, -1), (1 << 32, 1 << 32), (1, 1 << 31, 1 << 33), 1.5, "3", (2.0,)]
)
def test_shapes_that_do_not_fit(shape: Any) -> None:
    with pytest.raises(UsageError):
        Loan(np.zeros(22, np.uint8), writable=True).array("u4", shape)


def test_a_row_pitch_hides_the_padding() -> None:
    memory = np.arange(20, dtype=np.uint8)
    lent = Loan(memory, writable=True).array("u1", (3, 2, 2), row_pitch=8)
    assert lent.reshape(3, 4).tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    with pytest.raises(UsageError):
        Loan(memory[:19], writable=True).array("u1", (3, 2, 2), row_pitch=8)


def test_taking_back_empties_what_was_handed_out() -> None:
    memory = np.zeros(8, np.uint8)
    loan = Loan(memory, writable=True)
    first, second = loan.array(), loan.array("f4", (2, 1))
    loan.take_back()
    for lent in (first, second):
        assert lent.size == 0
        with pytest.raises(ValueError, match="read-only"):
            lent[:] = 1
        with pytest.raises(IndexError):
            lent[0]
    assert not memory.any()
    loan.take_back()  # twice is once


@pytest.mark.parametrize(
    "derive",
    [
        lambda a: a[1:],
        lambda a: a.reshape(2, 4),
        lambda a: a.view("u2")[1:].T,
        lambda a: iter(a.flat).base[::2],
    ],
)
def test_a_derived_array_is_noticed_and_nothing_changes(derive: Any) -> None:
    memory = np.zeros(8, np.uint8)
    loan = Loan(memory, writable=True)
    lent = loan.array()
    derived = derive(lent)
    with pytest.raises(ViewHeld, match="1 array"):
        loan.take_back()
    lent[0] = 5
    assert memory[0] == 5
    del derived
    loan.take_back()
    assert lent.size == 0


def test_what_was_derived_from_memory_of_a_loan_that_ended_holds_it() -> None:
    holds: Users = set()
    stale: Users = set()
    loan = Loan(np.zeros(8, np.uint8), writable=True, holds=holds, stale=stale)
    lent = loan.array()
    derived = lent[2:]
    loan.surrender()
    assert lent.size == 0
    assert (len(holds), len(stale)) == (1, 0)
    del lent
    derived[:] = 1
    assert holds
    del derived
    assert not holds


@pytest.mark.parametrize("how", ["drop", "take back", "surrender"])
def test_the_memory_of_a_loan_that_has_ended_is_over(how: str) -> None:
    told: list[object] = []
    loan = Loan(np.zeros(8, np.uint8), writable=True)
    kept = loan.array() if how != "drop" else None
    alive = loan.reached(told.append)
    assert alive() is not None
    if how == "take back":
        loan.take_back()
        assert loan.over
    elif how == "surrender":
        loan.surrender()
    del loan
    assert alive() is None
    assert told == [alive]
    assert kept is None or kept.size == 0


@pytest.mark.parametrize("dtype", [object, "O", [("a", object)], "V0", "U0", "no such type", ("f4", (2, 3))])
def test_dtypes_without_a_byte_layout(dtype: Any) -> None:
    with pytest.raises(UsageError):
        byte_dtype(dtype)


@pytest.mark.parametrize("dtype", ["u1", np.float32, ">i8", [("a", "u1"), ("b", "f4")], bool, "S3"])
def test_dtypes_with_one(dtype: Any) -> None:
    assert byte_dtype(dtype) == np.dtype(dtype)


class Mapped:
    """Host-visible memory that goes back when the last array over it is gone, as a driver's block does."""

    def __init__(self, nbytes: int) -> None:
        self.bytes = np.zeros(nbytes, np.uint8)
        self.__array_interface__ = self.bytes.__array_interface__


def test_memory_stays_as_long_as_it_may_be_written() -> None:
    """Such a writer shows only as a reference to the array that it was handed."""
    stale: Users = set()
    mapped = Mapped(8)
    loan = Loan(np.asarray(mapped), writable=True, stale=stale)
    idle, held = loan.array(), loan.array("u2")
    del idle
    memory = weakref.ref(mapped)
    del mapped
    loan.surrender()
    assert held.size == 0
    assert len(stale) == 1
    assert memory() is not None
    del held
    assert memory() is None
    assert not stale
    loan.surrender()


@pytest.mark.parametrize("end", [Loan.surrender, Loan.take_back])
def test_memory_that_nothing_refers_to_goes_at_once(end: Callable[[Loan], None]) -> None:
    stale: Users = set()
    mapped = Mapped(8)
    loan = Loan(np.asarray(mapped), writable=True, stale=stale)
    loan.array()[:] = 1
    loan.array("u2")
    memory = weakref.ref(mapped)
    del mapped
    end(loan)
    assert memory() is None
    assert not stale


SHAPES: list[tuple[str, Any]] = [
    ("u1", (64,)),
    ("u1", (8, 8)),
    ("f4", (2, 4, 2)),
    ("u8", ()),
    ("V16", (4, 1)),
]


@pytest.mark.parametrize("known", [True, False], ids=["", "unknown layout"])
@pytest.mark.parametrize(("dtype", "shape"), SHAPES)
def test_an_array_is_emptied_in_place(
    monkeypatch: pytest.MonkeyPatch, known: bool, dtype: str, shape: tuple[int, ...]
) -> None:
    """It holds the memory on, whichever way it is emptied; without a dimension it is a zero of its own."""
    monkeypatch.setattr(views, "_EXTENTS_KNOWN", known)
    stale: Users = set()
    memory = np.full(64, 7, np.uint8)
    loan = Loan(memory, writable=True, stale=stale)
    lent = loan.array(dtype, shape)
    loan.take_back()
    assert lent.size == (0 if shape else 1)
    assert not lent.any()
    assert not lent.flags.writeable
    assert len(stale) == 1
    assert (memory == 7).all()
    del lent
    assert not stale


def test_this_numpy_is_known() -> None:
    """Or an iterator that looks again where an array points would read past what the array then has."""
    assert views._EXTENTS_KNOWN


def test_iterators_that_look_again_find_the_memory() -> None:
    memory = np.arange(1 << 16, dtype=np.uint32)
    loan = Loan(memory.view(np.uint8), writable=True)
    lent = loan.array("u4")
    flat, pairs = lent.flat, np.broadcast(lent, 1)
    loan.take_back()
    pairs.reset()
    assert flat[65535] == 65535
    assert (flat[:] == memory).all()
    assert next(pairs) == (0, 1)
    with pytest.raises(ValueError, match="read-only"):
        flat[0] = 1


BENEATH: list[Callable[[Any], Any]] = [
    lambda lent: lent.base.base,
    lambda lent: lent.base.base.obj,
    lambda lent: np.asarray(lent.base.base),
    lambda lent: memoryview(lent.base.base),
]


@pytest.mark.parametrize("walk", BENEATH)
def test_a_path_of_bases_that_is_walked_ends_in_memory_that_is_held(walk: Callable[[Any], Any]) -> None:
    stale: Users = set()
    loan = Loan(np.zeros(8, np.uint8), writable=True, stale=stale)
    walked = walk(loan.array())
    loan.take_back()
    assert len(stale) == 1
    del walked
    assert not stale


class Slow:
    """A number that numpy has to wait for in the middle of a copy."""

    def __init__(self, value: int, reached: threading.Event, leave: threading.Event) -> None:
        self.value, self.reached, self.leave = value, reached, leave

    def __int__(self) -> int:
        self.reached.set()
        self.leave.wait(20)
        return self.value


def test_a_copy_that_is_under_way_ends_in_memory_that_is_still_there(
    background: Callable[..., Any], patience: float
) -> None:
    reached, leave = threading.Event(), threading.Event()
    mapped = Mapped(4)
    whole = mapped.bytes
    memory = weakref.ref(mapped)
    loan = Loan(np.asarray(mapped), writable=True)
    del mapped
    numbers = np.array([1, Slow(2, reached, leave), 3, 4], object)
    writing = background(lambda: np.copyto(loan.array(), numbers, casting="unsafe"))
    assert reached.wait(patience)
    loan.surrender()
    assert memory() is not None
    leave.set()
    writing.result(patience)
    assert whole.tolist() == [1, 2, 3, 4]


def test_a_loan_that_another_thread_took_back_lends_no_more() -> None:
    loan = Loan(np.zeros(4, np.uint8), writable=True)
    loan.surrender()
    with pytest.raises(StateError, match="taken back"):
        loan.array()


def test_the_base_of_what_was_lent_is_empty_too() -> None:
    memory = np.zeros(8, np.uint8)
    loan = Loan(memory, writable=True)
    view = loan.whole()
    assert view is loan.whole()
    loan.take_back()
    assert view.base is not None
    assert view.base.size == 0
    with pytest.raises(ValueError, match="read-only"):
        view.base[...] = 9
    assert not memory.any()


def test_a_namespace_that_shows_anothers_names_explains_nothing() -> None:
    """A mapping of the program's own may show one reference a second time."""
    loan = Loan(np.zeros(8, np.uint8), writable=True)
    names: dict[str, object] = {"view": loan.whole(), "loan": loan, "sys": sys, "ChainMap": ChainMap}
    look = "seen = loan.aliased(sys._getframe())"
    exec(f"{look}; plain = seen; exec({look!r}, globals()); again = seen", names)
    assert (names["plain"], names["again"]) == (False, False)
    kept = memoryview(loan.whole())
    exec(f"exec({look!r}, {{}}, mapping := ChainMap({{}}, globals())); seen = mapping['seen']", names)
    assert names["seen"] is True
    del kept


def test_an_error_that_is_kept_of_a_look_does_not_look_like_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(base: object) -> int:
        raise KeyboardInterrupt

    loan = Loan(np.zeros(8, np.uint8), writable=True)
    loan.whole()
    monkeypatch.setattr(views, "_references_below", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        loan.aliased(None)
    loan.take_back()
    assert loan.over
    assert kept.tb is not None
