"""Speed: ratios to the raw API in the same process. What is wanted stands in ``speed/rows``."""

from __future__ import annotations

import pytest

from forge3d_conformance.bench import Bench
from forge3d_conformance.clauses.measuring import hold_to_targets

SECONDS = 280
"""A clause of many sizes takes a while; a run is stopped after 300 seconds without a word."""

pytestmark = pytest.mark.timeout(SECONDS)


@pytest.mark.clause("perf.submit-cost")
def test_submitting_a_kernel_costs_little_more_than_a_launch(bench: Bench) -> None:
    hold_to_targets(bench, "perf.submit-cost")


@pytest.mark.clause("perf.fence-cost")
def test_a_point_costs_little_more_than_an_event(bench: Bench) -> None:
    hold_to_targets(bench, "perf.fence-cost")


@pytest.mark.clause("perf.ring-api-cost")
def test_staging_what_is_in_the_slice_costs_a_few_calls(bench: Bench) -> None:
    hold_to_targets(bench, "perf.ring-api-cost")


@pytest.mark.clause("perf.upload-small")
def test_a_small_upload_costs_what_the_raw_one_does(bench: Bench) -> None:
    hold_to_targets(bench, "perf.upload-small")


@pytest.mark.clause("perf.batch-cost")
def test_many_slices_under_one_advance_cost_less_each(bench: Bench) -> None:
    hold_to_targets(bench, "perf.batch-cost")


@pytest.mark.clause("perf.readback-small")
def test_small_reads_cost_what_raw_ones_do(bench: Bench) -> None:
    hold_to_targets(bench, "perf.readback-small")


@pytest.mark.clause("perf.upload-owned")
def test_uploads_of_pageable_memory_reach_their_targets(bench: Bench) -> None:
    hold_to_targets(bench, "perf.upload-owned")


@pytest.mark.clause("perf.upload-pinned")
def test_staged_memory_goes_up_as_fast_as_by_hand(bench: Bench) -> None:
    hold_to_targets(bench, "perf.upload-pinned")


@pytest.mark.clause("perf.readback-lease")
def test_leases_come_home_as_fast_as_by_hand(bench: Bench) -> None:
    hold_to_targets(bench, "perf.readback-lease")


@pytest.mark.clause("perf.readback-owned")
def test_owned_reads_reach_their_targets(bench: Bench) -> None:
    hold_to_targets(bench, "perf.readback-owned")


@pytest.mark.clause("perf.texture-rows")
def test_padded_rows_come_home_fast(bench: Bench) -> None:
    hold_to_targets(bench, "perf.texture-rows")


@pytest.mark.clause("perf.duplex")
def test_both_ways_at_once_reach_the_sum(bench: Bench) -> None:
    hold_to_targets(bench, "perf.duplex")


@pytest.mark.clause("perf.overlap")
def test_parts_overlap_as_far_as_they_can(bench: Bench) -> None:
    hold_to_targets(bench, "perf.overlap")


@pytest.mark.clause("pipeline.overlap")
def test_systems_overlap_as_far_as_their_parts_can(bench: Bench) -> None:
    hold_to_targets(bench, "pipeline.overlap")


@pytest.mark.clause("perf.tax")
def test_frames_cost_what_they_cost_by_hand(bench: Bench) -> None:
    hold_to_targets(bench, "perf.tax")


@pytest.mark.clause("perf.demo")
def test_the_demo_is_as_fast_as_by_hand(bench: Bench) -> None:
    hold_to_targets(bench, "perf.demo")


@pytest.mark.clause("perf.growth")
def test_a_read_costs_the_same_among_many(bench: Bench) -> None:
    hold_to_targets(bench, "perf.growth")
