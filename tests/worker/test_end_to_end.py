"""The main job: submit, launch through real workers over real HTTP, read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
import redis as redis_client
from celery import Celery

from harness import ROOT, World, body, wait_until
from launchq import InputError, LaunchRequest, RefusedError
from sandbox import CloudOptions
from tasks.states import State

INPUTS = ROOT / "tests/tasks/inputs"


@pytest.mark.parametrize("example", ["document_body.json", "document_curl.sh"])
def test_an_example_of_the_document_is_launched_and_its_body_arrives_as_given(
    world: World, example: str
) -> None:
    world.worker()
    ran = world.run("submit", str(INPUTS / example), "--wait", "--json")
    assert ran.code == 0, ran
    [job] = ran.document["jobs"]
    [instance] = world.cloud.instances()
    [request] = world.cloud.requests()
    assert job["state"] == "succeeded"
    assert job["instanceId"] == instance["instanceId"]
    planned = world.run("plan", str(INPUTS / example), "--json", "--show-script").document["jobs"][0][
        "request"
    ]
    assert request["body"] == planned
    text = (INPUTS / example).read_text(encoding="utf-8")
    given = json.loads(text[text.index("{") : text.rindex("}") + 1])
    defaults = {"isSpotInstance": False}
    disks = {"extraDataDiskSizeDB": 0, "dockerStorageSize": 0}
    given["instanceConfiguration"] = {**disks, **given["instanceConfiguration"]}
    assert request["body"] == {**defaults, **given}


def test_a_message_of_the_api_comes_back_letter_for_letter(world: World) -> None:
    message = '字段 "instanceConfiguration.enableDocker" 未设置'
    world.cloud.script_faults(f"message:{message}")
    world.worker()
    ran = world.run("submit", "-", "--wait", "--json", stdin=json.dumps(body()))
    assert ran.code == 3
    [job] = ran.document["jobs"]
    assert (job["state"], job["error"]) == ("failed", {"category": "rejected", "message": message})
    raw = redis_client.Redis.from_url(world.redis.url, decode_responses=True)
    assert raw.hmget(f"{{{world.prefix}}}:job:{job['id']}", "state", "instanceId", "message") == [
        "failed",
        None,
        message,
    ]
    raw.close()


def test_hmget_holds_the_result_for_pollers_in_any_language(world: World) -> None:
    world.worker()
    job = world.launcher.submit(body())
    world.launcher.wait([job.id], timeout=20)
    raw = redis_client.Redis.from_url(world.redis.url, decode_responses=True)
    [instance] = world.cloud.instances()
    fields = raw.hmget(f"{{{world.prefix}}}:job:{job.id}", "state", "instanceId", "message")
    assert fields == ["succeeded", instance["instanceId"], None]
    raw.close()


def test_the_python_door_takes_mappings_and_models_and_waits(world: World) -> None:
    world.worker()
    model = LaunchRequest(
        name="typed",
        image_id="i",
        instance_type_id="t",
        region="r",
        billing={"charge_mode": "perHour", "duration": 1},  # type: ignore[arg-type]
        remote_storages=(),
        instance_configuration={  # type: ignore[arg-type]
            "enable_common_data": False,
            "enable_docker": False,
            "init_script": "echo secret-script",
        },
        node_ports=(),
    )
    batch = world.launcher.submit_many([body("one"), model], batch="both")
    jobs = world.launcher.wait([batch.id], timeout=20)
    assert {job.name: job.state for job in jobs} == {"one": State.SUCCEEDED, "typed": State.SUCCEEDED}
    assert world.launcher.batch("both").done
    assert "secret-script" not in repr(jobs)
    assert "secret-script" not in json.dumps([job.document() for job in jobs])
    [arrived] = world.cloud.requests("typed")
    assert arrived["body"]["instanceConfiguration"]["initScript"] == "echo secret-script"


def test_the_python_door_says_everything_that_is_wrong_and_enters_nothing(world: World) -> None:
    with pytest.raises(InputError) as refused:
        world.launcher.submit_many([body("fine"), "no body", body("bad", nodePorts=[0])])  # type: ignore[list-item]
    assert "entry 2" in str(refused.value)
    assert "entry 3: nodePorts[0]" in str(refused.value)
    assert world.launcher.list_jobs() == []


def test_the_same_key_or_entry_returns_the_job_that_exists_and_launches_nothing(world: World) -> None:
    world.worker()
    first = world.launcher.submit(body(), key="k-1")
    world.launcher.wait([first.id], timeout=20)
    again = world.launcher.submit(body(), key="k-1")
    assert again.id == first.id
    with pytest.raises(RefusedError, match=r"billing\.chargeMode"):
        world.launcher.submit(body(billing={"chargeMode": "tidePerHour", "duration": 1}), key="k-1")
    text = json.dumps([body("a"), body("b")])
    one = world.run("submit", "-", "--batch", "b1", "--wait", "--json", stdin=text).document
    two = world.run("submit", "-", "--batch", "b1", "--wait", "--json", stdin=text).document
    assert [job["duplicate"] for job in one["jobs"]] == [False, False]
    assert [job["duplicate"] for job in two["jobs"]] == [True, True]
    assert [job["id"] for job in one["jobs"]] == [job["id"] for job in two["jobs"]]
    assert sorted(world.names_created()) == ["a", "b", "example-instance"]


def test_count_gives_distinct_names(world: World) -> None:
    world.worker()
    ran = world.run("submit", "-", "--count", "12", "--wait", "--json", stdin=json.dumps(body("node")))
    assert ran.code == 0
    assert sorted(world.names_created()) == [f"node-{number:02}" for number in range(1, 13)]


def test_the_celery_door_enters_one_job_under_the_task_id(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.worker()
    producer = Celery("producer", broker=world.redis.url)
    sent = producer.send_task("launchq.submit", [body("by-celery")], {"key": "c-1"}, queue=world.prefix)
    assert world.wait_for(sent.id, State.SUCCEEDED).name == "by-celery"
    bad = producer.send_task("launchq.submit", [body("bad", nodePorts=[0])], queue=world.prefix)
    failed = world.wait_for(bad.id, State.FAILED)
    assert failed.error is not None
    assert failed.error.category == "invalid"
    assert "nodePorts[0]" in failed.error.message
    for number, strange in enumerate(
        [([], {}), ([body()], {"kye": "k"}), ([body(), 2], {}), ([body()], {"key": 7}), (["text"], {})]
    ):
        sent = producer.send_task("launchq.submit", *strange, queue=world.prefix)
        refused = world.wait_for(sent.id, State.FAILED)
        assert refused.error is not None, number
        assert refused.error.category == "invalid"
    producer.close()
    assert world.names_created() == ["by-celery"]


def test_the_default_workers_listen_on_celerys_default_queue(redis: object) -> None:
    with World(prefix="launchq") as world:  # a Redis of its own, since the default prefix is shared by name
        world.worker()
        producer = Celery("producer", broker=world.redis.url)
        sent = producer.send_task("launchq.submit", [body("plain")], {"key": "k"})
        producer.close()
        assert world.wait_for(sent.id, State.SUCCEEDED).name == "plain"


def test_celery_starts_the_worker_too(world: World) -> None:
    world.worker(command=["-m", "celery", "-A", "worker", "worker", "--loglevel", "info", "-c", "3"])
    jobs = [world.launcher.submit(body(f"n{number}")) for number in range(5)]
    done = world.launcher.wait([job.id for job in jobs], timeout=20)
    assert {job.state for job in done} == {State.SUCCEEDED}


def test_messages_of_the_celery_door_are_read_while_slow_calls_keep_every_process_busy(
    make_world: Callable[..., World],
) -> None:
    world = make_world(cloud=CloudOptions(latency=2.0), concurrency=2, shift_seconds="1", request_timeout="8")
    world.worker(processes=1)
    batch = world.launcher.submit_many([body(f"job-{number:02}") for number in range(30)])
    wait_until(lambda: len(world.cloud.requests()) > 2, description="calls are under way")
    producer = Celery("producer", broker=world.redis.url)
    sent = producer.send_task("launchq.submit", [body("by-celery")], queue=world.prefix)
    producer.close()
    wait_until(
        lambda: world.launcher.ledger.jobs([sent.id])[0], description="the job of the message", timeout=15
    )
    assert not world.launcher.batch(batch.id).done


def test_refused_connections_are_tried_again_and_short_lived_tokens_renewed(
    make_world: Callable[..., World],
) -> None:
    """500 jobs, 3 worker processes, 10% refused connections, tokens that live 3 s."""
    world = make_world(
        cloud=CloudOptions(latency=0.05, token_life=3.0, refuse=0.1, seed=3), concurrency=20, backoff_base=0.2
    )
    for _ in range(3):
        world.worker(processes=1)
    batch = world.launcher.submit_many([body(f"job-{number:03}") for number in range(500)], batch="many")
    jobs = world.launcher.wait([batch.id], timeout=90)
    assert {job.state for job in jobs} == {State.SUCCEEDED}, world.launcher.batch("many")
    assert sorted(world.names_created()) == sorted(job.name for job in jobs)
    assert len(jobs) == 500
    state = world.cloud.state()
    began, ended = (
        min(r["at"] for r in world.cloud.requests()),
        max(r["at"] for r in world.cloud.requests()),
    )
    lifetimes = (ended - began) / 3.0 + 1
    assert state["logins"]["ok"] <= 2 * lifetimes, state


def test_transient_ends_use_up_the_budget_and_then_fail_with_the_last_error(
    make_world: Callable[..., World],
) -> None:
    world = make_world()
    world.set(
        api_url="http://127.0.0.1:9/api", username=None, password=None, access_token=world.cloud.mint_token()
    )
    world.worker(processes=1)
    job = world.launcher.submit(body(), max_attempts=3)
    ended = world.wait_for(job.id, State.FAILED)
    assert ended.attempts == 3
    assert ended.error is not None
    assert ended.error.category == "transient"
    assert "127.0.0.1:9" in ended.error.message


def test_a_throttled_call_waits_for_retry_after(world: World) -> None:
    world.cloud.script_faults("429:1", times=2)
    world.worker(processes=1)
    job = world.launcher.submit(body())
    seen = world.wait_for(job.id, State.RETRYING)
    assert seen.reason == "throttled"
    assert world.launcher.account().state == "paused"
    ended = world.wait_for(job.id, State.SUCCEEDED)
    assert ended.attempts == 3
    times = [request["at"] for request in world.cloud.requests()]
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))


def test_a_spot_job_waits_for_capacity_and_others_fail_with_it(make_world: Callable[..., World]) -> None:
    world = make_world(capacity_interval="0.3")
    spot = body("spot", isSpotInstance=True)
    for is_spot in (True, False):
        world.cloud.set_capacity(spot["region"], spot["instanceTypeId"], 0, is_spot_instance=is_spot)
    world.worker(processes=1)
    waiting, failing = world.launcher.submit(spot, max_attempts=2), world.launcher.submit(body("on-demand"))
    assert world.wait_for(failing.id, State.FAILED).error.category == "capacity"  # type: ignore[union-attr]
    wait_until(lambda: world.job(waiting.id).attempts > 3, description="the spot job goes on asking")
    assert world.job(waiting.id).reason in ("capacity", None)
    world.cloud.set_capacity(spot["region"], spot["instanceTypeId"], 1, is_spot_instance=True)
    assert world.wait_for(waiting.id, State.SUCCEEDED).instance_id


def test_an_empty_balance_blocks_the_account_and_fails_nobody(world: World) -> None:
    world.cloud.set_balance(0)
    world.worker(processes=1)
    jobs = [world.launcher.submit(body(f"n{number}")) for number in range(3)]
    account = wait_until(
        lambda: (found := world.launcher.account()).state == "blocked" and found,
        description="the account is blocked",
    )
    assert account.reason == "balance"
    assert "余额不足" in account.message
    assert not [job for job in world.launcher.list_jobs() if job.ended]
    ran = world.run("list", "--json")
    assert ran.document["account"]["reason"] == "balance"
    assert len(jobs) == 3
