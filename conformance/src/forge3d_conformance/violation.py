"""What a clause test may say besides passing."""

from __future__ import annotations

from collections.abc import Iterator


class ClauseViolation(AssertionError):
    """The backend broke the clause; the message says what was seen and what the contract says."""


class Inconclusive(Exception):
    """The conditions of the test did not hold long enough to say anything; it is tried again."""


class Tardy(ClauseViolation):
    """Something that must not wait took too long. A busy machine can do that too: it is tried again."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that ``error`` is made of: itself, or what a group of them holds."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def described(error: BaseException) -> str:
    """Return ``ErrorType: message``, which is what a mutant's ``because`` is matched against."""
    return f"{type(error).__name__}: {error}"
