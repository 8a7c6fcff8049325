"""Every error survives what carries it to another thread, process or program."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from forge3d_core import errors
from forge3d_core.errors import BackendError, BudgetError, ForgeError, UsageError, WrongType, copy_exception

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ForgeError) and kind.__module__ == errors.__name__
]


def made(kind: type[ForgeError]) -> ForgeError:
    """Return an error with all that one can have."""
    message = "4 MiB do not fit; close something"
    extra: dict[str, Any] = (
        {"backend": "wgpu", "fix": "pip install it"} if issubclass(kind, BackendError) else {}
    )
    error = kind(message, **extra)
    error.add_note("a note")
    error.frame = 7  # type: ignore[attr-defined]
    return error


def rebuilt(error: ForgeError) -> ForgeError:
    """Return it as tblib does, which dask uses: without calling the class."""
    kind, *_ = error.__reduce_ex__(4)  # type: ignore[misc]
    assert isinstance(kind, type)
    again = kind.__new__(kind)
    again.__dict__.update(error.__dict__)
    again.args = error.args
    return again  # type: ignore[no-any-return]


CARRIERS: list[Callable[[ForgeError], Any]] = [
    *(lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)),
    copy.copy,
    copy.deepcopy,
    copy_exception,
    rebuilt,
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_travels(kind: type[ForgeError]) -> None:
    error = made(kind)
    for carry in CARRIERS:
        there = carry(error)
        assert type(there) is kind
        assert (there.args, str(there)) == (error.args, str(error))
        assert there.__notes__ == ["a note"]
        assert there.frame == 7
        if issubclass(kind, BackendError):
            assert (there.backend, there.fix) == ("wgpu", "pip install it")
    assert kind.__new__(kind).args == ()


@pytest.mark.parametrize("kind", TREE)
def test_every_error_says_what_it_is(kind: type[ForgeError]) -> None:
    assert kind.__doc__
    assert kind.__name__ in (errors.__doc__ or "")


def test_what_a_caller_would_expect() -> None:
    for kind, builtin in ((WrongType, TypeError), (UsageError, ValueError), (BudgetError, MemoryError)):
        with pytest.raises(builtin):
            raise kind("so")
    assert issubclass(WrongType, UsageError)
