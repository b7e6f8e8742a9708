"""Calls whose end is unknown, with real workers and the simulated cloud: looked up, adopted, made again, or left to a person."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from harness import World, body, wait_until
from sandbox import CloudOptions
from tasks.states import State

FAULTS = [
    "close-before",
    "close-after",
    "reset-before",
    "reset-after",
    "hang-before:30",
    "hang-after:30",
    "500-before",
    "500-after",
    "502-before",
    "504-after",
    "garbage-before",
    "garbage-after",
    "half",
    "429:0",
    "expired",
]
"""Every kind of fault of a create call that the simulated cloud knows and that is no answer of the API's."""


def name_of(fault: str) -> str:
    return "meets-" + fault.partition(":")[0]


@pytest.fixture
def quick(make_world: Callable[..., World]) -> World:
    return make_world(request_timeout="1", verify_delays="0.2,0.5,1")


@pytest.mark.parametrize("unique", [False, True], ids=["exact names", "unique names"])
def test_every_fault_alone_ends_in_exactly_one_instance(quick: World, unique: bool) -> None:
    quick.worker(processes=1)
    for fault in FAULTS:
        quick.cloud.script_faults(fault, name=name_of(fault) + "*")
    batch = quick.launcher.submit_many([body(name_of(fault)) for fault in FAULTS], unique_names=unique)
    jobs = quick.launcher.wait([batch.id], timeout=40)
    assert {job.name: job.state for job in jobs} == dict.fromkeys(map(name_of, FAULTS), State.SUCCEEDED)
    instances = {instance["instanceId"]: instance["name"] for instance in quick.cloud.instances()}
    assert {job.instance_id: job.sent_name for job in jobs} == instances
    assert len(instances) == len(FAULTS)
    # What had been done was not done again; what had not been done was done once more.
    calls = Counter(request["name"] for request in quick.cloud.requests())
    for job in jobs:
        bought_at_once = job.name.endswith("-after") or job.name == "meets-half"
        assert calls[job.sent_name] == (1 if bought_at_once else 2), job.name


def test_a_name_is_sent_as_it_is_or_with_the_jobs_tag(quick: World) -> None:
    quick.worker(processes=1)
    exact = quick.launcher.submit(body("trainer"))
    tagged = quick.launcher.submit(body("trainer"), unique_names=True)
    quick.launcher.wait([exact.id, tagged.id], timeout=20)
    assert sorted(quick.names_created()) == ["trainer", f"trainer-{tagged.id[:8]}"]
    shown = quick.run("status", tagged.id, "--json").document
    assert (shown["name"], shown["request"]["name"]) == ("trainer", f"trainer-{tagged.id[:8]}")
    # The same batch submitted again is the same, whatever the tags of its jobs.
    for _ in range(2):
        ran = quick.run("submit", "-", "--batch", "b", "--unique-names", stdin=json.dumps(body("again")))
        assert ran.code == 0, ran
    assert quick.launcher.batch("b").total == 1


def test_where_the_list_can_never_be_read_a_person_decides(quick: World) -> None:
    quick.cloud.script_faults("500", endpoint="list", times=100_000)
    quick.cloud.script_faults("close-after", name="bought")
    quick.cloud.script_faults("close-before", name="not-bought")
    quick.worker(processes=1)
    ids = {name: quick.launcher.submit(body(name)).id for name in ("bought", "not-bought")}
    assert quick.run("wait", *ids.values(), "--timeout", "40s").code == 5
    assert Counter(request["name"] for request in quick.cloud.requests()) == {"bought": 1, "not-bought": 1}
    told = quick.run("list", "--state", "uncertain").out
    for name, job_id in ids.items():
        assert f"Look for {name} in the console" in told
        assert f"launchq resolve {job_id}" in told
    assert "could not be read: HTTP 500" in told
    assert quick.run("retry", ids["bought"]).code == 2
    quick.cloud.clear_faults()

    [instance] = quick.cloud.instances()
    wrong = quick.run("resolve", ids["bought"], "--created", "notebook-of-nobody")
    assert wrong.code == 2
    assert "no instance notebook-of-nobody" in wrong.err
    assert quick.job(ids["bought"]).state is State.UNCERTAIN
    right = quick.run(
        "resolve",
        ids["bought"],
        "--created",
        instance["instanceId"],
        "--reason",
        "seen in the console",
        "--json",
    )
    assert right.code == 0, right
    assert (right.document["state"], right.document["instanceId"]) == ("succeeded", instance["instanceId"])
    assert right.document["history"][-1]["message"] == "seen in the console"
    assert "@" in right.document["history"][-1]["by"]

    taken = quick.run("resolve", ids["not-bought"], "--created", instance["instanceId"])
    assert taken.code == 2
    assert ids["bought"] in taken.err
    assert quick.run("resolve", ids["not-bought"], "--not-created").code == 0
    assert quick.run("wait", ids["not-bought"]).code == 3
    assert quick.run("resolve", ids["not-bought"], "--created", instance["instanceId"]).code == 2
    assert quick.run("retry", ids["not-bought"]).code == 0
    quick.wait_for(ids["not-bought"], State.SUCCEEDED)
    assert sorted(quick.names_created()) == ["bought", "not-bought"]


def test_resolving_goes_on_with_a_word_where_the_list_cannot_be_read(quick: World) -> None:
    quick.cloud.script_faults("500", endpoint="list", times=100_000)
    quick.cloud.script_faults("close-after")
    quick.worker(processes=1)
    job = quick.launcher.submit(body("a"))
    quick.wait_for(job.id, State.UNCERTAIN)
    [instance] = quick.cloud.instances()
    ran = quick.run("resolve", job.id, "--created", instance["instanceId"])
    assert ran.code == 0
    assert "could not be checked" in ran.err
    for words in (["--created", "x", "--not-created"], [], ["--created", ""]):
        assert quick.run("resolve", job.id, *words).code == 2
    assert quick.run("resolve", "nobody", "--not-created").code == 2


def test_one_listing_serves_all_jobs_that_wait_for_it(make_world: Callable[..., World]) -> None:
    world = make_world(
        cloud=CloudOptions(latency=0.02, max_page_size=10), request_timeout="1", verify_delays="1,2,3"
    )
    worker = world.worker(processes=2)
    first = world.launcher.submit(body("first"))
    world.wait_for(first.id, State.SUCCEEDED)
    world.cloud.set_fault_rates({"close-after": 0.5, "close-before": 0.5})
    batch = world.launcher.submit_many([body(f"job-{number:02}") for number in range(60)])
    wait_until(
        lambda: world.launcher.batch(batch.id).counts[State.VERIFYING] == 60, description="all are in doubt"
    )
    world.cloud.clear_faults()
    before = world.cloud.state()["calls"]["list"]
    jobs = world.launcher.wait([batch.id], timeout=40)
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert Counter(world.names_created()) == Counter(["first", *(job.name for job in jobs)])
    # Three looks at up to seven pages each, for 60 jobs; twice as many where their times fall apart a little.
    assert world.cloud.state()["calls"]["list"] - before <= 2 * 3 * 7 + 7, worker.log()


def test_every_page_is_looked_at(make_world: Callable[..., World]) -> None:
    world = make_world(
        cloud=CloudOptions(latency=0.01, max_page_size=7), request_timeout="1", verify_delays="0.2,0.5"
    )
    world.worker(processes=1)
    many = world.launcher.submit_many([body(f"old-{number:03}") for number in range(80)])
    world.launcher.wait([many.id], timeout=30)
    for name in ("first-page", "last-page"):
        world.cloud.script_faults("close-after", name=name)
        job = world.launcher.submit(body(name))
        assert world.wait_for(job.id, State.SUCCEEDED).attempts == 1
    assert len(world.names_created()) == 82


def test_an_instance_that_was_there_before_is_never_taken_for_the_jobs_own(quick: World) -> None:
    """Somebody else launched one of the same name by hand, and the job's own call was not obeyed."""
    quick.worker(processes=1)
    by_hand = buy_by_hand(quick, "trainer")
    quick.cloud.script_faults("close-before", name="trainer")
    job = quick.wait_for(quick.launcher.submit(body("trainer")).id, State.SUCCEEDED)
    assert job.attempts == 2
    assert job.instance_id != by_hand
    assert len(quick.cloud.instances()) == 2


def test_jobs_of_one_and_the_same_exact_name_get_an_instance_each(quick: World) -> None:
    quick.worker(processes=2)
    quick.cloud.set_fault_rates(
        {"close-after": 0.25, "close-before": 0.25, "reset-after": 0.1, "500-before": 0.1}
    )
    batch = quick.launcher.submit_many([body("same") for _ in range(40)], max_attempts=50)
    jobs = quick.launcher.wait([batch.id], timeout=90)
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert len({job.instance_id for job in jobs}) == 40
    assert {job.instance_id for job in jobs} == {one["instanceId"] for one in quick.cloud.instances()}


def test_an_instance_that_appears_late_in_the_list_is_waited_for(make_world: Callable[..., World]) -> None:
    world = make_world(
        cloud=CloudOptions(latency=0.02, list_delay=2.0), request_timeout="1", verify_delays="0.3,1,3"
    )
    world.worker(processes=1)
    world.cloud.script_faults("close-after")
    job = world.wait_for(world.launcher.submit(body("late")).id, State.SUCCEEDED)
    assert job.attempts == 1
    assert world.names_created() == ["late"]


def test_two_instances_of_a_name_that_may_both_be_the_jobs_are_left_to_a_person(quick: World) -> None:
    quick.worker(processes=1)
    first = quick.launcher.submit(body("first"))
    quick.wait_for(first.id, State.SUCCEEDED)
    quick.cloud.script_faults("hang-after:30", name="twin")
    job = quick.launcher.submit(body("twin"))
    wait_until(lambda: quick.cloud.requests("twin"), description="the call arrives")
    other = buy_by_hand(quick, "twin")
    uncertain = quick.wait_for(job.id, State.UNCERTAIN)
    assert uncertain.error is not None
    for instance in quick.cloud.instances("twin"):
        assert instance["instanceId"] in uncertain.error.message
    assert other in uncertain.error.message
    assert len(quick.cloud.instances("twin")) == 2


def test_a_batch_budget_ends_also_in_unknown_ends(quick: World) -> None:
    quick.worker(processes=1)
    quick.cloud.script_faults("close-before", times=2, name="unlucky")
    job = quick.launcher.submit(body("unlucky"), max_attempts=2)
    failed = quick.wait_for(job.id, State.FAILED)
    assert failed.attempts == 2
    assert failed.error is not None
    assert failed.error.category == "unknown"
    assert "no instance of it in the list" in failed.error.message
    assert quick.names_created() == []
    assert quick.run("retry", job.id).code == 0
    quick.wait_for(job.id, State.SUCCEEDED)


def test_a_job_cancelled_while_it_is_looked_up_is_not_tried_again_but_keeps_what_it_bought(
    quick: World,
) -> None:
    quick.worker(processes=1)
    ids = {}
    for name, fault in (("bought", "close-after"), ("not-bought", "close-before")):
        quick.cloud.script_faults(fault, name=name)
        ids[name] = quick.launcher.submit(body(name)).id
    for job_id in ids.values():
        quick.wait_for(job_id, State.VERIFYING, State.SUCCEEDED)
    assert quick.launcher.cancel([ids["not-bought"]])[ids["not-bought"]].what == "requested"
    quick.launcher.cancel([ids["bought"]])
    quick.wait_for(ids["not-bought"], State.CANCELLED)
    quick.wait_for(ids["bought"], State.SUCCEEDED)
    assert quick.names_created() == ["bought"]


def test_the_next_call_waits_for_the_end_of_the_lease_however_short_the_delays(
    make_world: Callable[..., World],
) -> None:
    world = make_world(request_timeout="2", verify_delays="0.1,0.2")
    world.worker(processes=1)
    world.cloud.script_faults("reset-before")
    job = world.wait_for(world.launcher.submit(body("a")).id, State.SUCCEEDED)
    first, second = world.cloud.requests("a")
    assert job.attempts == 2
    assert second["at"] - first["at"] > 2 + 5 - 1


def test_an_account_that_cannot_pay_is_still_asked_what_it_has(quick: World) -> None:
    quick.worker(processes=1)
    quick.cloud.script_faults("close-after", name="bought")
    job = quick.launcher.submit(body("bought"))
    quick.wait_for(job.id, State.VERIFYING)
    quick.cloud.set_balance(0)
    blocked = quick.launcher.submit(body("blocked"))
    wait_until(lambda: quick.launcher.account().state == "blocked", description="the account is blocked")
    assert quick.wait_for(job.id, State.SUCCEEDED).attempts == 1
    assert not quick.job(blocked.id).ended


def test_what_happened_to_a_job_can_be_read_line_by_line(quick: World) -> None:
    quick.worker(processes=1)
    quick.cloud.script_faults("429:0", "close-before", name="a")
    job = quick.wait_for(quick.launcher.submit(body("a")).id, State.SUCCEEDED)
    assert [(one.event, one.attempt) for one in job.history if one.event != "lookup"] == [
        ("defer", 1),
        ("doubt", 2),
        ("defer", 2),
        ("create", 3),
    ]
    assert [one.at for one in job.history] == sorted(one.at for one in job.history)
    shown = quick.run("status", job.id, "--history").out
    assert "attempt 2: doubt -> verifying [unknown]" in shown
    assert "closed the connection without an answer" in shown
    assert shown.rstrip().splitlines()[-1].count(job.instance_id or "") == 1
    assert quick.run("status", job.id, "--json").document["history"] == [
        one.document() for one in job.history
    ]


def buy_by_hand(world: World, name: str) -> str:
    """Launch an instance past launchq, as a person at the console does; its id."""
    answer = httpx.post(
        world.cloud.api_url + "/instance/create",
        json=body(name),
        headers={"Cookie": f"AccessToken={world.cloud.mint_token()}"},
        trust_env=False,
        timeout=5,
    )
    created: str = answer.json()["instanceId"]
    return created
