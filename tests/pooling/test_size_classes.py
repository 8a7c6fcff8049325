from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from forge3d_core.pooling.size_classes import capacity_of


@given(some.integers(1, 1 << 40), some.sampled_from([1, 4, 16, 256, 4096]))
def test_a_class_holds_what_belongs_to_it_and_little_more(nbytes: int, granule: int) -> None:
    capacity = capacity_of(nbytes, granule)
    assert nbytes <= capacity
    assert capacity % granule == 0
    assert capacity - nbytes < max(nbytes / 16, granule)
    assert capacity_of(capacity, granule) == capacity


@given(some.integers(12, 40), some.data())
def test_waste_is_at_most_a_sixteenth(exponent: int, data: some.DataObject) -> None:
    nbytes = data.draw(some.integers(1 << exponent, (1 << (exponent + 1)) - 1))
    assert capacity_of(nbytes) - nbytes <= nbytes * 0.0625


def test_a_power_of_two_has_sixteen_classes() -> None:
    assert len({capacity_of(n) for n in range((1 << 12) + 1, (1 << 13) + 1)}) == 16
