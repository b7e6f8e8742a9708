"""Lists: every job once, the latest change first, wherever it is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ledger import calls
from ledger_box import Box, report, request, sold_out, submission
from tasks.jobs import Choice
from tasks.states import Event, State


def listed(box: Box, limit: int, **filters: Any) -> list[str]:
    """The ids of all pages, with so many on a page."""
    ids: list[str] = []
    after: str | None = ""
    while after is not None:
        page = box.ledger.page(limit=limit, after=after, **filters)
        ids += [job.id for job in page.jobs]
        after = page.more
    return ids


def in_order(box: Box) -> list[str]:
    """The ids of all jobs as they should be listed: by their last change, and those entered at once by their order."""
    names = [name.removeprefix("job:") for name in box.names() if name.startswith("job:")]
    jobs = {job_id: box.fields(job_id) for job_id in names}

    def place(job_id: str) -> tuple[float, str]:
        job = jobs[job_id]
        moved = box.redis.zscore(box.keys.base + "changed", job_id) is not None
        return float(job["updatedAt"] if moved else job["arrived"]), job_id

    return sorted(jobs, key=place, reverse=True)


def fill(box: Box) -> None:
    """Jobs in every state, in several lanes, put aside with their batch, and with fallbacks, in two lanes each."""
    for state in sorted(
        State, key=lambda state: state is State.QUEUED
    ):  # those that a claim makes come first
        box.in_state(state, f"in-{state}")
    box.enter("a", "b", "c", lane="one")
    box.enter("d", "e", batch="held", lane="two")
    box.ledger.run(calls.hold("held", "person"))
    box.claim()
    choices = (Choice("four", 0.0, request("n", region="four")),)
    many = [
        submission(f"f{one}", lane="three", wait_for_capacity=True, fallbacks=choices) for one in range(6)
    ]
    box.ledger.enqueue(many)
    [first] = box.claim(1).jobs
    box.settle(sold_out(first))
    box.claim()
    assert box.redis.zcard(box.keys.ready("three")) > 1
    assert box.redis.zcard(box.keys.ready("four")) > 1
    box.enter("g", "h", lane="one")
    box.enter("i", not_before=timedelta(hours=1))


@pytest.mark.parametrize("limit", [1, 3, 500])
def test_pages_have_every_job_once_and_the_latest_change_first(box: Box, limit: int) -> None:
    fill(box)
    expected = in_order(box)
    assert len(expected) > 20
    assert listed(box, limit) == expected
    for state in State:
        of_state = [job_id for job_id in expected if box.state(job_id) == state]
        assert listed(box, limit, state=state) == of_state, state
    assert listed(box, limit, batch="held") == [
        job_id for job_id in expected if box.fields(job_id).get("batchId") == "held"
    ]
    assert {box.fields(job_id)["name"] for job_id in listed(box, limit, text="F")} >= {"f4", "f5"}


def test_a_job_that_waits_where_it_was_entered_costs_no_place_in_the_order(box: Box) -> None:
    box.enter(*(f"n{number}" for number in range(50)))
    assert box.redis.zcard(box.keys.base + "changed") == 0
    assert len(listed(box, 20)) == 50


@pytest.mark.parametrize("later", [-1, 0, 1], ids=["before", "at once", "after"])
@pytest.mark.parametrize("limit", [1, 3, 500])
@pytest.mark.parametrize("look", [1, 2000])
def test_a_job_that_is_back_in_line_is_listed_once(box: Box, limit: int, look: int, later: int) -> None:
    """Whether it moved in the millisecond of its place in line, or before or after it."""
    ids = box.enter("a", "b", "c")
    box.settle(*(report(job, Event.DEFER) for job in box.claim().jobs))
    [lane] = box.redis.zrange(box.keys.lanes, 0, -1)
    for job_id in ids:
        place = int(box.redis.zscore(box.keys.ready(lane), job_id))
        box.redis.zadd(box.keys.base + "changed", {job_id: place + later})
        box.redis.hset(box.keys.job(job_id), "updatedAt", place + later)
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = box.ledger.run(
            calls.page(state=None, batch=None, text="", after=after, limit=limit, look=look)
        )
        found += page.ids
        after = page.more
    assert sorted(found) == sorted(ids)


def test_jobs_of_before_there_was_an_order_are_listed_too(box: Box) -> None:
    fill(box)
    expected = in_order(box)
    box.redis.delete(box.keys.base + "changed", box.keys.base + "ordered")
    assert listed(box, 7) == expected
