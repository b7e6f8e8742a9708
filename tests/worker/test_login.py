"""Tokens: made once for all workers, renewed before they end; refused credentials fail no job."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness import World, body, wait_until
from sandbox import CloudOptions
from tasks.states import State


def logins(world: World) -> dict[str, int]:
    counts: dict[str, int] = world.cloud.state()["logins"]
    return counts


def test_fifty_calls_refused_at_once_cost_one_login_and_no_attempt(make_world: Callable[..., World]) -> None:
    world = make_world(cloud=CloudOptions(latency=0.3), concurrency=30)
    world.cloud.script_faults("expired", times=50)
    batch = world.launcher.submit_many([body(f"job-{number:02}") for number in range(50)])
    for _ in range(2):
        world.worker(processes=1)
    jobs = world.launcher.wait([batch.id], timeout=30)
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert {job.attempts for job in jobs} == {1}
    # 30 calls of each process meet the refusal before any of them has ended: one token for the start, one after it.
    assert logins(world)["ok"] <= 3, logins(world)
    assert len(world.names_created()) == 50


def test_a_token_is_renewed_before_it_ends(make_world: Callable[..., World]) -> None:
    world = make_world(cloud=CloudOptions(latency=0.05, token_life=3.0))
    world.worker(processes=1)
    until, number = time.monotonic() + 7, 0
    while time.monotonic() < until:
        number += 1
        world.wait_for(world.launcher.submit(body(f"job-{number}")).id, State.SUCCEEDED)
    assert "unauthorized" not in {request["outcome"] for request in world.cloud.requests()}
    assert 2 <= logins(world)["ok"] <= 5


def test_refused_credentials_fail_no_job_back_off_and_go_on_when_put_right(world: World) -> None:
    world.set(password="wrong")
    world.worker(processes=1)
    world.worker(processes=1)
    began = time.monotonic()
    jobs = [world.launcher.submit(body(f"job-{number}")) for number in range(5)]
    account = wait_until(
        lambda: (found := world.launcher.account()).state == "blocked" and found,
        description="the account is blocked",
    )
    assert account.reason == "credentials"
    refusal = account.message.partition(": ")[2]
    assert refusal
    for command in (["status"], ["list"], ["doctor"]):
        ran = world.run(*command)
        assert refusal in ran.out + ran.err, ran
        assert "wrong" not in ran.out + ran.err
    wait_until(lambda: time.monotonic() - began > 10, description="ten seconds of refused logins", timeout=20)
    assert 2 <= logins(world)["refused"] <= 5, logins(world)
    assert world.cloud.requests() == []
    assert {world.job(job.id).state for job in jobs} == {State.QUEUED}
    # Put right by a worker with other credentials: at once, without waiting for the next slow try.
    world.worker(processes=1, password="demo")
    done = world.launcher.wait([job.id for job in jobs], timeout=25)
    assert {job.state for job in done} == {State.SUCCEEDED}
    assert world.launcher.account().state == "open"
    assert all("wrong" not in worker.log() for worker in world.workers)


def test_without_credentials_claiming_stops_until_a_token_is_set(world: World) -> None:
    world.set(username=None, password=None)
    world.worker(processes=1)
    job = world.launcher.submit(body())
    account = wait_until(
        lambda: (found := world.launcher.account()).state == "blocked" and found,
        description="the account is blocked",
    )
    assert "auth set-token" in account.message
    token = world.cloud.mint_token()
    ran = world.run("auth", "set-token", "--json", stdin=token)
    assert ran.code == 0, ran
    assert ran.document["token"]["source"] == "set-token"
    assert world.wait_for(job.id, State.SUCCEEDED, timeout=5).attempts == 1
    # And again, when that token is refused later.
    world.cloud.revoke_tokens()
    second = world.launcher.submit(body("second"))
    wait_until(
        lambda: world.launcher.account().state == "blocked", description="the account is blocked again"
    )
    assert world.job(second.id).state in (State.RETRYING, State.QUEUED)
    world.run("auth", "set-token", stdin="AccessToken=" + world.cloud.mint_token())
    assert world.wait_for(second.id, State.SUCCEEDED, timeout=5).attempts == 1
    assert all(token not in worker.log() for worker in world.workers)


def test_a_token_of_the_environment_is_used_and_not_taken_up_again_after_a_refusal(world: World) -> None:
    token = world.cloud.mint_token()
    world.set(username=None, password=None, access_token=token)
    first = world.worker(processes=1)
    assert world.wait_for(world.launcher.submit(body("one")).id, State.SUCCEEDED)
    assert logins(world)["ok"] == 0
    world.cloud.revoke_tokens()
    job = world.launcher.submit(body("two"))
    wait_until(lambda: world.launcher.account().state == "blocked", description="the account is blocked")
    first.kill_all()
    world.worker(processes=1)
    calls = len(world.cloud.requests())
    assert calls == 2
    assert world.launcher.account().state == "blocked"
    world.launcher.set_token(world.cloud.mint_token())
    world.wait_for(job.id, State.SUCCEEDED)


def test_use_token_takes_the_token_of_a_curl_command_and_otherwise_it_is_dropped(world: World) -> None:
    world.set(username=None, password=None)
    world.worker(processes=1)
    token = world.cloud.mint_token()
    import json

    curl = f"curl '{world.cloud.api_url}/instance/create' -b 'AccessToken={token}' --data-raw '{json.dumps(body())}'"
    dropped = world.run("submit", "-", "--json", stdin=curl)
    assert dropped.code == 0
    assert "--use-token" in dropped.err
    assert token not in dropped.err + dropped.out
    [job] = dropped.document["jobs"]
    wait_until(lambda: world.launcher.account().state == "blocked", description="the account is blocked")
    used = world.run(
        "submit",
        "-",
        "--use-token",
        "--key",
        "second",
        "--json",
        stdin=curl.replace("example-instance", "second"),
    )
    assert used.code == 0, used
    assert "--use-token" not in used.err
    for job_id in (job["id"], used.document["jobs"][0]["id"]):
        world.wait_for(job_id, State.SUCCEEDED)
        fields = world.launcher.ledger.redis.hgetall(world.launcher.ledger.keys.job(job_id))
        assert token not in str(fields)


def test_an_api_key_goes_in_its_own_header_and_its_refusal_blocks_the_account(
    make_world: Callable[..., World],
) -> None:
    world = make_world(
        cloud=CloudOptions(latency=0.02, api_keys=("key-123",)),
        username=None,
        password=None,
        api_key="key-123",
    )
    world.worker(processes=1)
    world.wait_for(world.launcher.submit(body("keyed")).id, State.SUCCEEDED)
    assert logins(world) == {"ok": 0, "refused": 0}
    other = make_world(
        cloud=CloudOptions(latency=0.02, api_keys=("another",)),
        username=None,
        password=None,
        api_key="key-123",
    )
    other.worker(processes=1)
    job = other.launcher.submit(body("refused"))
    wait_until(lambda: other.launcher.account().state == "blocked", description="the account is blocked")
    assert not other.job(job.id).ended
    assert len(other.cloud.requests()) <= 2
    other.worker(processes=1, api_key="another")
    other.wait_for(job.id, State.SUCCEEDED)


def test_a_login_that_brings_useless_tokens_does_not_become_a_storm(world: World) -> None:
    world.cloud.script_faults("expired", times=1000)
    world.worker(processes=2)
    job = world.launcher.submit(body())
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 6, description="six seconds of useless logins")
    assert not world.job(job.id).ended
    assert logins(world)["ok"] <= 5
    world.cloud.clear_faults()
    world.wait_for(job.id, State.SUCCEEDED)
