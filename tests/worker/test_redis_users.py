"""The Redis users of docs/security.md: the whole product works through the first, and neither can do more."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_client
from celery import Celery
from redis.exceptions import NoPermissionError

from harness import ROOT, World, body, wait_until
from launchq import Launcher

LINES = re.findall(
    r"^ACL SETUSER (\w+) (.*)$", (ROOT / "docs/security.md").read_text(encoding="utf-8"), re.MULTILINE
)
KEY = "A" * 43 + "="


@pytest.fixture
def world() -> Iterator[World]:
    """A Redis of its own, under the default prefix, with the documented users and a key of somebody else."""
    with World(secret_key=KEY) as world:
        world.prefix = "launchq"
        with redis_client.Redis.from_url(world.redis.url) as admin:
            for name, rules in LINES:
                admin.execute_command("ACL", "SETUSER", name, *rules.split())
            admin.set("somebody-elses", "x")
        world.set(prefix="launchq", redis_url=url_of(world, "launchq"))
        yield world


def url_of(world: World, user: str) -> str:
    return f"redis://{user}:PASSWORD@127.0.0.1:{world.redis.port}/0"


def denied(world: World) -> set[tuple[str, str]]:
    """What Redis refused to anybody: (kind, what)."""
    with redis_client.Redis.from_url(world.redis.url) as admin:
        refusals: list[dict[str, Any]] = admin.acl_log()
        return {(refusal["reason"], refusal["object"]) for refusal in refusals}


def test_the_whole_product_works_through_the_documented_user(world: World) -> None:
    # Celery's own command, with gossip, mingle and events: it needs the most.
    names = ["-m", "celery", "-A", "worker", "worker", "-E", "-l", "info", "-c", "2"]
    worker = world.worker(command=names)
    text = json.dumps(body())
    ran = world.run("submit", "-", "--batch", "b", "--count", "12", "--key", "k", "--wait", stdin=text)
    assert ran.code == 0, ran
    world.run("auth", "set-token", stdin=world.cloud.mint_token())
    for command in ("list", "status", "status b", "doctor", "events", "auth status", "cancel b", "retry b"):
        ran = world.run(*command.split())
        assert ran.code == 0, ran
    with Celery(broker=url_of(world, "launchq")) as app:
        task = app.send_task("launchq.submit", [body("by-celery")], queue="launchq", priority=6)
        wait_until(
            lambda: "by-celery" in world.names_created(), description="the Celery door's job is launched"
        )
        assert app.control.inspect(timeout=3).ping()
    assert world.job(task.id).name == "by-celery"
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    # redis-py tells its name and version to whoever lets it.
    assert denied(world) <= {("command", "client")}


@pytest.mark.parametrize("user", ["launchq", "poller"])
def test_no_documented_user_can_do_what_launchq_does_not(world: World, user: str) -> None:
    with redis_client.Redis.from_url(url_of(world, user)) as client:
        for command in (
            "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG SET maxmemory 1", "ACL LIST", "SHUTDOWN", "DEBUG OBJECT x", "SAVE",
            "MONITOR", "REPLICAOF NO ONE", "MIGRATE 127.0.0.1 1 x 0 1", "RENAME {launchq}:token x", "SCAN 0",
            "GET somebody-elses", "SET somebody-elses 1", "PUBLISH somewhere x",
            "EVAL return(redis.call('get','somebody-elses')) 0", "SWAPDB 0 1", "SLOWLOG GET",
        ):  # fmt: skip
            with pytest.raises((NoPermissionError, redis_client.ResponseError)) as refused:
                client.execute_command(*command.split())
            assert re.search("permission|can't access", str(refused.value)), command


def test_a_poller_reads_results_but_no_token_and_writes_nothing(world: World) -> None:
    world.worker(processes=1)
    with Launcher(world.settings) as launcher:
        job = launcher.submit(body(), key="k")
        [job] = launcher.wait([job.id], timeout=30)
    with redis_client.Redis.from_url(url_of(world, "poller"), decode_responses=True) as poller:
        assert poller.get("{launchq}:key:k") == job.id
        name = f"{{launchq}}:job:{job.id}"
        assert poller.hmget(name, "state", "instanceId") == ["succeeded", job.instance_id]
        [(_, event)] = poller.xrevrange("{launchq}:events", count=1)
        assert event["job"] == job.id
        assert poller.xread({"{launchq}:events": "0"}, count=1)
        for command in (
            "HGETALL {launchq}:token",
            f"HSET {name} state x",
            "LRANGE launchq 0 -1",
            "EVAL return(1) 0",
        ):
            with pytest.raises(NoPermissionError):
                poller.execute_command(*command.split())
