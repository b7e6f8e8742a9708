"""The rhythm in which the catalogue is read; that it is read before probes is in test_lanes_end_to_end.py."""

from __future__ import annotations

from tasks.catalogue import Catalogue, Offer
from worker.stock import rhythm_of, without_stock


def test_every_probe_is_within_the_window_of_a_reading_that_ends_before_it() -> None:
    for interval in (0.4, 1, 30, 600):
        rhythm = rhythm_of(interval, 0)
        assert rhythm.lead <= interval / 4
        assert rhythm.rest == interval / 2
        assert rhythm.window >= rhythm.rest + rhythm.lead


def test_readings_take_no_more_than_half_of_a_small_budget() -> None:
    assert rhythm_of(30, 10).rest == 15
    assert rhythm_of(30, 1 / 60).rest == 120


def test_a_lane_is_empty_only_where_the_catalogue_has_it_and_says_so() -> None:
    kinds = {"gone": "OutOfStock", "there": "InStock", "unsaid": None}
    catalogue = Catalogue({(kind, "r", True): Offer(stock) for kind, stock in kinds.items()})
    lanes = [f"r/{kind}/{how}" for kind in (*kinds, "unknown") for how in ("spot", "onDemand")]
    assert list(without_stock(catalogue, [*lanes, "strange"])) == ["r/gone/spot"]
