"""What the benchmark of the router counts as added, and what it is held against."""

from bench import router

ROUND = {
    "direct_p50_milliseconds": 0.1,
    "router_p50_milliseconds": 0.4,
    "direct_p99_milliseconds": 1.0,
    "router_p99_milliseconds": 1.5,
    "requests_per_cpu_second": 4000.0,
    "requests_per_second": 3000.0,
    "microseconds_per_event": 7.5,
    "resident_megabytes": 80.0,
}


def test_what_is_added_is_the_difference_within_a_round():
    slow = {**ROUND, "direct_p50_milliseconds": 5.0, "router_p50_milliseconds": 5.2}
    figures = router.figures_of([ROUND, slow, ROUND])
    assert figures["router_added_milliseconds_p50"] == 0.3
    assert figures["router_added_milliseconds_p99"] == 0.5


def test_figures_are_held_against_their_bounds():
    good = router.figures_of([ROUND])
    assert all(target.holds for target in router.targets_of(good).values())
    bad = {name: 1e9 if "milliseconds" in name else 0.0 for name in router.BOUNDS}
    assert not any(target.holds for target in router.targets_of(bad).values())
