"""The tally against made-up books: it finds whatever is wrong in them. A tally that cannot fail proves nothing."""

from __future__ import annotations

import pytest

from chaos.tally import Record, count


def cloud(*names: str) -> list[dict[str, str]]:
    """The cloud's instances: `i-0`, `i-1`, ... of these names."""
    return [{"instanceId": f"i-{number}", "name": name} for number, name in enumerate(names)]


def good(*names: str) -> list[Record]:
    """Jobs that all succeeded, with the instances of `cloud`."""
    return [Record(name, "succeeded", f"i-{number}") for number, name in enumerate(names)]


def test_one_instance_for_each_job_is_as_promised() -> None:
    tally = count(good("a", "b", "c"), cloud("a", "b", "c"))
    assert (tally.asked, tally.succeeded, tally.instances, tally.surplus) == (3, 3, 3, 0)
    assert tally.broken(uncertain_at_most=0) == []


def test_a_second_instance_of_a_job_is_found_although_the_job_knows_of_one_only() -> None:
    tally = count(good("a", "b"), cloud("a", "b", "a", "a"))
    assert tally.twice == ("a: 3 instances for 1 job",)
    assert tally.surplus == 2
    assert tally.orphans == ("i-2 (a)", "i-3 (a)")
    assert not tally.lost
    assert [line.partition(",")[0] for line in tally.broken()] == ["1 bought twice", "2 orphans"]


def test_a_second_instance_counts_as_bought_twice_also_where_its_job_is_uncertain() -> None:
    tally = count([Record("a", "uncertain")], cloud("a", "a"))
    assert len(tally.twice) == 1
    assert tally.orphans == ("i-1 (a)",)


@pytest.mark.parametrize("state", ["queued", "submitting", "retrying", "verifying", "missing", "no result"])
def test_a_job_that_did_not_end_is_lost(state: str) -> None:
    tally = count([*good("a"), Record("b", state)], cloud("a"))
    assert tally.lost == (f"b: did not end ({state})",)
    assert tally.not_ended == 1
    assert tally.broken()


def test_a_job_is_lost_whose_instance_the_cloud_does_not_know() -> None:
    tally = count([Record("a", "succeeded", "i-9"), Record("b", "succeeded")], cloud())
    assert tally.lost == ("a: there is no i-9", "b: succeeded, but names no instance")


def test_a_job_is_lost_whose_instance_was_bought_for_another() -> None:
    tally = count([Record("a", "succeeded", "i-0"), Record("b", "succeeded", "i-0")], cloud("a"))
    assert tally.lost == ("b: i-0 was bought for a",)
    swapped = count([Record("a", "succeeded", "i-1"), Record("b", "succeeded", "i-0")], cloud("a", "b"))
    assert len(swapped.lost) == len(swapped.orphans) == 2


def test_an_instance_of_a_job_that_failed_or_of_no_job_at_all_is_an_orphan() -> None:
    tally = count([Record("a", "failed"), Record("b", "cancelled")], cloud("a", "stranger"))
    assert tally.orphans == ("i-0 (a)", "i-1 (stranger)")
    assert (tally.failed, tally.lost, tally.twice) == (2, (), ())
    assert tally.broken()


def test_an_instance_of_an_uncertain_job_is_no_orphan_for_a_person_is_asked_to_look() -> None:
    tally = count([Record("a", "uncertain")], cloud("a"))
    assert tally.broken() == []
    assert tally.uncertain == 1


def test_too_many_uncertain_jobs_break_the_promise_where_there_is_a_bound() -> None:
    records = [Record(f"u-{number}", "uncertain") for number in range(2)]
    records += [Record(f"a-{number}", "failed") for number in range(98)]
    tally = count(records, cloud())
    assert tally.broken() == []
    assert tally.broken(uncertain_at_most=0.02) == []
    assert tally.broken(uncertain_at_most=0.01) == ["2 uncertain, at most 1 may be"]


class TestTheSameNameForAll:
    def test_as_many_instances_as_jobs_each_known_to_one_are_as_promised(self) -> None:
        assert count(good("a", "a", "a"), cloud("a", "a", "a")).broken() == []

    def test_one_more_than_jobs_was_bought_twice(self) -> None:
        tally = count(good("a", "a"), cloud("a", "a", "a"))
        assert tally.surplus == len(tally.twice) == len(tally.orphans) == 1

    def test_an_instance_of_two_jobs_loses_one_of_them(self) -> None:
        tally = count([Record("a", "succeeded", "i-0")] * 2, cloud("a"))
        assert tally.lost == ("a: i-0 belongs to another job too",)

    def test_each_uncertain_job_accounts_for_one_instance_and_no_more(self) -> None:
        records = [*good("a"), Record("a", "uncertain"), Record("a", "failed")]
        assert count(records, cloud("a", "a")).broken() == []
        assert count(records, cloud("a", "a", "a")).orphans == ("i-2 (a)",)
