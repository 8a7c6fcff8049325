from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forge3d_core.errors import StateError, UsageError, ViewHeld
from forge3d_core.views import Loan, byte_dtype


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


def test_the_memory_is_over_when_the_last_array_goes() -> None:
    told: list[object] = []
    loan = Loan(np.zeros(8, np.uint8), writable=True)
    over = loan.reached(told.append)
    lent = loan.array()
    derived = lent[2:]
    loan.surrender()
    assert lent.size == 0
    assert not told
    del derived
    gc.collect()
    assert told == [over]


@pytest.mark.parametrize("how", ["drop", "take back", "surrender", "revoke"])
def test_the_memory_of_a_loan_that_has_ended_is_over(how: str) -> None:
    told: list[object] = []
    loan = Loan(np.zeros(8, np.uint8), writable=True)
    alive = loan.reached(told.append)
    assert alive() is not None
    if how == "take back":
        loan.take_back()
        assert loan.over
    elif how != "drop":
        getattr(loan, how)()
    del loan
    assert alive() is None
    assert told == [alive]


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


def test_revoked_memory_stays_as_long_as_somebody_may_be_writing_it() -> None:
    """Such a writer shows only as a reference to the array that it was handed."""
    told: list[object] = []
    mapped = Mapped(8)
    loan = Loan(np.asarray(mapped), writable=True)
    over = loan.reached(told.append)
    idle, held = loan.array(), loan.array("u2")
    del idle
    memory = weakref.ref(mapped)
    del mapped
    loan.revoke()
    assert held.size == 0
    assert told == [over], "an array that was emptied shows nothing"
    assert memory() is not None
    del held
    assert memory() is None
    loan.revoke()


def test_revoked_memory_that_nobody_refers_to_goes_at_once() -> None:
    mapped = Mapped(8)
    loan = Loan(np.asarray(mapped), writable=True)
    loan.array()[:] = 1
    loan.array("u2")
    memory = weakref.ref(mapped)
    del mapped
    loan.revoke()
    assert memory() is None


def test_the_end_waits_for_what_was_derived_from_revoked_memory() -> None:
    told: list[object] = []
    loan = Loan(np.zeros(8, np.uint8), writable=True)
    over = loan.reached(told.append)
    lent = loan.array()
    derived = lent[2:]
    loan.revoke()
    del lent
    assert not told
    derived[:] = 1
    del derived
    assert told == [over]


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
    loan.revoke()
    assert memory() is not None
    leave.set()
    writing.result(patience)
    assert whole.tolist() == [1, 2, 3, 4]


def test_a_loan_that_another_thread_took_back_lends_no_more() -> None:
    loan = Loan(np.zeros(4, np.uint8), writable=True)
    loan.revoke()
    with pytest.raises(StateError, match="taken back"):
        loan.array()
