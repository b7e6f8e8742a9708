"""The catalogue before probes: when it is read, by whom, and what it may put off."""

from __future__ import annotations

from ledger import calls, stock
from ledger.stock import Look
from ledger_box import LANE, Box, sold_out, submission
from test_ledger_lanes import close, probe

WAIT = 30.0


def look(box: Box, *, lead: float = 2, window: float = 15, rate: float = 0) -> Look:
    return box.ledger.run(stock.take(lead=lead, window=window, lasts=60, rate=rate))


def told(box: Box, *lanes: str, why: str = "") -> int:
    call = stock.told(dict.fromkeys(lanes, WAIT), why=why, rest=15, longest=100, in_a_row=9)
    return box.ledger.run(call)


def next_reading(box: Box) -> float:
    """Seconds until the catalogue may be read again."""
    return (int(box.redis.hget(box.keys.base + "stock", "nextAt")) - box.now()) / 1000


class TestWhenItIsRead:
    def test_not_while_no_lane_is_sold_out(self, box: Box) -> None:
        box.enter("a", wait_for_capacity=True)
        assert look(box) == Look(None)

    def test_shortly_before_the_probe_and_by_one_of_all_who_ask(self, box: Box) -> None:
        close(box, wait=30)
        far = look(box)
        assert far.wait is not None
        assert 27 < far.wait <= 28
        assert far.lanes == ()
        assert look(box, lead=40, window=40).lanes == (LANE,)
        assert look(box, lead=40, window=40).lanes == (), "the turn is taken"

    def test_lanes_whose_probes_are_far_are_not_asked_about(self, box: Box) -> None:
        close(box, wait=30)
        box.ledger.enqueue([submission("other", lane="other", wait_for_capacity=True)])
        box.settle(sold_out(box.take(), wait=500))
        assert look(box, lead=40, window=40).lanes == (LANE,)

    def test_not_while_the_account_is_paused(self, box: Box) -> None:
        close(box)
        box.ledger.run(calls.pause("somebody"))
        assert look(box, lead=40) == Look(None)

    def test_it_counts_as_a_call_and_is_not_made_while_launches_use_up_the_budget(self, box: Box) -> None:
        close(box, 30)
        box.enter("launched", "b")
        assert len(box.claim(rate=0.01).jobs) == 1, "the one call of a tiny budget"
        held_back = look(box, lead=40, window=40, rate=0.01)
        assert held_back.lanes == ()
        assert held_back.wait is not None
        assert 99 < held_back.wait <= 100
        box.redis.hset(box.keys.base + "rate", "at", box.now() - 100_000)
        assert look(box, lead=40, window=40, rate=0.01).lanes == (LANE,)
        claim = box.claim(rate=0.01)
        assert (claim.jobs, claim.why) == ((), "rate")


class TestWhatItPutsOff:
    def test_the_probe_of_an_empty_lane_waits_for_another_interval(self, box: Box) -> None:
        close(box, wait=30)
        assert told(box, LANE) == 1
        assert 59_000 < box.lane_served_in() <= 60_000
        assert box.claim().jobs == ()
        [lane] = box.ledger.run(calls.status()).lanes
        assert lane.message == "no capacity"
        assert lane.empty_at is not None

    def test_nine_in_a_row_and_not_the_tenth(self, box: Box) -> None:
        close(box)
        assert [told(box, LANE) for _ in range(11)] == [1] * 9 + [0, 0]
        box.settle(sold_out(probe(box)))
        assert told(box, LANE) == 1, "a probe that was made begins the count anew"

    def test_a_probe_under_way_is_left_alone(self, box: Box) -> None:
        close(box)
        job = probe(box)
        assert told(box, LANE) == 0
        box.settle(sold_out(job, wait=30))
        assert 29_000 < box.lane_served_in() <= 30_000

    def test_a_lane_that_is_not_sold_out_is_left_alone(self, box: Box) -> None:
        box.enter("a", wait_for_capacity=True)
        assert told(box, LANE, "nowhere") == 0
        assert box.claim().jobs


class TestWhereItCannotBeRead:
    def test_each_failure_in_a_row_doubles_the_rest_up_to_the_longest(self, box: Box) -> None:
        close(box)
        rests = []
        for _ in range(5):
            told(box, why="HTTP 500")
            rests.append(round(next_reading(box)))
        assert rests == [15, 30, 60, 100, 100]
        assert box.lane_served_in() <= 30_000, "its probe is due as ever"
        told(box)
        assert round(next_reading(box)) == 15
        told(box, why="HTTP 500")
        assert round(next_reading(box)) == 15
