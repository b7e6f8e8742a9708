"""Real workers on a ledger whose secrets are sealed: every door, keys that change, and workers that lack one."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery
from cryptography.fernet import Fernet

from harness import ROOT, World, body, wait_until
from sandbox import CloudOptions
from tasks.states import State

A, B = "A" * 43 + "=", "B" * 42 + "A="  # the same in every process of a parallel run
SENTINEL = "sentinel-c0ffee"
SECRET_BODY = body(
    "secretive",
    instanceConfiguration={
        "enableCommonData": False,
        "enableDocker": False,
        "initScript": f"echo {SENTINEL}",
    },
)


def due_now(world: World, job_id: str) -> None:
    """As if the job's rest were over."""
    ledger = world.launcher.ledger
    ledger.redis.hset(ledger.keys.job(job_id), "dueAt", 1)
    ledger.redis.zadd(ledger.keys.base + "due", {job_id: 1})


def token_of(world: World) -> str:
    """The token as Redis holds it."""
    ledger = world.launcher.ledger
    return str(ledger.redis.hget(ledger.keys.token, "value"))


def send_sealed(world: World, text: str, key: str = A, **arguments: object) -> str:
    """Send a sealed body, as a program does that only has Celery; the id of its job."""
    with Celery(broker=world.redis.url) as app:
        sealed = Fernet(key).encrypt(text.encode()).decode()
        return str(app.send_task("launchq.submit", [sealed], arguments, queue=world.prefix).id)


def test_a_job_by_any_door_is_launched_with_its_script_and_its_token_stays_sealed(world: World) -> None:
    world.set(secret_key=A)
    by_celery = send_sealed(world, json.dumps(SECRET_BODY), key=A)
    by_python = world.launcher.submit(SECRET_BODY).id
    [by_file] = world.run("submit", "-", "--json", stdin=json.dumps(SECRET_BODY)).document["jobs"]
    world.worker()
    for job_id in (by_celery, by_python, by_file["id"]):
        job = world.wait_for(job_id, State.SUCCEEDED)
        assert job.request is not None
        assert job.request["instanceConfiguration"]["initScript"] == f"echo {SENTINEL}"
    scripts = {request["body"]["instanceConfiguration"]["initScript"] for request in world.cloud.requests()}
    assert (scripts, len(world.names_created())) == ({f"echo {SENTINEL}"}, 3)
    assert token_of(world).startswith("sealed:")


@pytest.mark.parametrize("key", [None, B])
def test_a_worker_without_the_key_sends_nothing_fails_nothing_and_says_why(
    make_world: Callable[..., World], key: str | None
) -> None:
    # With an API key, so that no token comes into it.
    cloud = CloudOptions(latency=0.02, api_keys=("cloud-key",))
    world = make_world(cloud, username=None, password=None, api_key="cloud-key", secret_key=A)
    job = world.launcher.submit(SECRET_BODY, max_attempts=1)
    world.set(secret_key=key)
    keyless = world.worker(processes=1)
    began = time.time()
    held = world.wait_for(job.id, State.RETRYING)
    assert held.error is not None
    assert (held.error.category, held.attempts) == ("transient", 0)
    assert "LAUNCHQ_SECRET_KEY" in held.error.message
    assert held.due_at is not None
    assert 50 < held.due_at.timestamp() - began < 70
    assert world.cloud.requests() == []
    assert "LAUNCHQ_SECRET_KEY" in keyless.log()
    assert job.id in keyless.log()
    keyless.kill_all()
    world.worker(processes=1, secret_key=A)
    due_now(world, job.id)
    assert world.wait_for(job.id, State.SUCCEEDED).attempts == 1


def test_a_token_that_a_worker_cannot_open_is_none_for_it_and_kept_for_others(world: World) -> None:
    world.set(username=None, password=None)
    token = world.cloud.mint_token()
    world.run("auth", "set-token", stdin=token, secret_key=A)
    kept = token_of(world)
    job = world.launcher.submit(body())
    keyless = world.worker(processes=1)
    wait_until(
        lambda: "LAUNCHQ_SECRET_KEY" in keyless.log(), description="it says that it cannot open the token"
    )
    assert not world.job(job.id).ended
    assert world.cloud.requests() == []
    assert world.launcher.account().state == "open"
    assert token_of(world) == kept
    keyless.kill_all()
    world.worker(processes=1, secret_key=A)
    due_now(world, job.id)
    world.wait_for(job.id, State.SUCCEEDED)
    assert token_of(world) == kept


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        (json.dumps(SECRET_BODY), B, "LAUNCHQ_SECRET_KEY"),
        ("{", A, "not valid JSON"),
        ('{"name": "a", "name": "b"}', A, "more than once"),
        (f'"{SENTINEL}"', A, "text"),
        (json.dumps({**SECRET_BODY, "nodePorts": [0]}), A, "nodePorts[0]"),
    ],
)
def test_a_sealed_body_that_cannot_be_launched_is_a_failed_job_that_says_why(
    world: World, text: str, key: str, why: str
) -> None:
    world.set(secret_key=A)
    job_id = send_sealed(world, text, key=key)
    worker = world.worker(processes=1)
    job = world.wait_for(job_id, State.FAILED)
    assert job.error is not None
    assert job.error.category == "invalid"
    assert why in job.error.message
    assert SENTINEL not in job.error.message + worker.log()


def test_a_key_can_be_changed_while_jobs_of_the_old_one_wait(world: World) -> None:
    text = json.dumps([{**SECRET_BODY, "name": f"night-{number}"} for number in range(5)])
    submit = ("submit", "-", "--batch", "nightly", "--json")
    world.set(secret_key=A)
    first = world.run(*submit, stdin=text).document["jobs"]
    world.run("auth", "set-token", stdin=world.cloud.mint_token())
    world.set(secret_key=f"{B},{A}")
    again = world.run(*submit, stdin=text).document["jobs"]
    assert [(job["id"], job["duplicate"]) for job in again] == [(job["id"], True) for job in first]
    checks = {check["name"]: check for check in world.run("doctor", "--json").document["checks"]}
    # The request that the five share, and the token.
    assert (checks["secrets"]["status"], "2 looked at" in checks["secrets"]["detail"]) == ("ok", True)
    world.worker()
    assert world.run("wait", "nightly", "--timeout", "30s").code == 0
    assert len(world.names_created()) == 5
    # To be rid of the old key: a new token, and jobs that are forgotten by their retention.
    world.run("auth", "set-token", stdin=world.cloud.mint_token())
    world.run("submit", "-", "--batch", "later", "--wait", stdin=json.dumps(SECRET_BODY))
    world.set(secret_key=B)
    assert world.run("submit", "-", "--batch", "later", stdin=json.dumps(SECRET_BODY)).code == 0
    opened = world.run("list", "--json").document["jobs"]
    assert {job["name"]: job["request"] is not None for job in opened} == {
        "secretive": True, **{f"night-{number}": False for number in range(5)},
    }  # fmt: skip
    assert world.launcher.account().token["source"] == "set-token"


def test_the_sealed_body_of_the_security_page_is_launched_and_never_stands_in_the_broker(
    tmp_path: Path,
) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/security.md").read_text(), re.M | re.S)
    (tmp_path / "secret-key").write_text(A)
    (tmp_path / "body.json").write_text(json.dumps(SECRET_BODY))
    with World(secret_key=A) as world:
        world.prefix = "launchq"
        world.set(prefix="launchq")
        here = example.replace("redis://127.0.0.1:6379/0", world.redis.url)
        done = subprocess.run(
            [sys.executable, "-c", here], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        [message] = world.launcher.ledger.redis.lrange("launchq", 0, -1)
        body_in_broker = base64.b64decode(json.loads(message)["body"]).decode()
        assert SENTINEL not in message + body_in_broker
        world.worker(processes=1)
        wait_until(world.names_created, description="it is launched")
        assert world.wait_for(done.stdout.strip(), State.SUCCEEDED).name == SECRET_BODY["name"]
