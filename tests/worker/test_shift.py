"""One shift in this process: what lost answers of Redis, late claims and full rooms do to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from config import Settings
from harness import World, body, wait_until
from ledger import AsyncLedger
from ledger.calls import Call
from sandbox import CloudOptions
from tasks.errors import LedgerError
from tasks.states import State
from worker import shift as shift_module
from worker.cloud import Cloud
from worker.shift import TURNS, Shift, Shifts, Surroundings

QUIET = Surroundings(lambda: False, wake_up=lambda: None, messages_wait=lambda: False)


class LossyLedger(AsyncLedger):
    """Carries every call out, and loses the answers that `loses` picks: by script name and how many were asked."""

    def __init__(self, settings: Settings, loses: Callable[[str, int], bool]) -> None:
        super().__init__(settings.redis_url, settings.prefix)
        self._loses = loses
        self.asked: Counter[str] = Counter()

    async def run(self, call: Call[Any]) -> Any:
        reply = await super().run(call)
        self.asked[call.script.name] += 1
        if self._loses(call.script.name, self.asked[call.script.name]):
            raise LedgerError("the answer was lost")
        return reply


async def run_one_shift(
    world: World,
    *,
    loses: Callable[[str, int], bool] = lambda *_: False,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[LossyLedger, list[str]]:
    settings = world.settings
    ledger = LossyLedger(settings, loses)
    woken: list[str] = []
    try:
        async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud:
            around = Surroundings(stopping, wake_up=lambda: woken.append("up"), messages_wait=lambda: False)
            await Shift(settings, ledger, cloud, around).run()
    finally:
        await ledger.close()
    return ledger, woken


def all_states(world: World) -> Counter[State]:
    return Counter(job.state for job in world.launcher.list_jobs(limit=0))


@pytest.mark.parametrize("script", ["claim", "settle", "login", "token"])
async def test_an_answer_of_redis_that_is_lost_loses_and_doubles_nothing(
    world: World, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.launcher.ledger.enqueue(_submissions(world, 12))
    ledger, _ = await run_one_shift(world, loses=lambda name, number: name == script and number <= 2)
    while all_states(world) != {State.SUCCEEDED: 12}:  # a login whose answer was lost waits for its next turn
        await run_one_shift(world)
        await asyncio.sleep(0.1)
    assert ledger.asked[script] >= 1
    assert Counter(world.names_created()) == {f"job-{number:02}": 1 for number in range(12)}
    assert {job.attempts for job in world.launcher.list_jobs(limit=0)} == {1}
    assert "look in the console" not in caplog.text


async def test_an_instance_that_the_ledger_refuses_to_note_is_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.launcher.ledger.enqueue(_submissions(world, 1))
    [job] = world.launcher.list_jobs()

    def goes_on(name: str, _number: int) -> bool:
        if name == "claim":
            world.launcher.ledger.redis.hset(world.launcher.ledger.keys.job(job.id), "attempt", "7")
        return False

    await run_one_shift(world, loses=goes_on)
    [instance] = world.cloud.instances()
    assert f"created {instance['instanceId']} after it had been given up" in caplog.text
    [line] = [one for one in world.job(job.id).history if one.event == "surplus"]
    assert line.instance_id == instance["instanceId"]


async def test_a_claim_whose_answer_comes_too_late_is_not_sent_and_goes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift_module, "LEASE_MARGIN", 0.4)
    world.launcher.ledger.enqueue(_submissions(world, 3))

    class SlowOnce(LossyLedger):
        async def run(self, call: Call[Any]) -> Any:
            reply = await super().run(call)
            if call.script.name == "claim" and reply.jobs and self.asked["slow"] == 0:
                self.asked["slow"] += 1
                await asyncio.sleep(0.3)  # this is the delay under test: longer than half the margin
                assert world.names_created() == []
            return reply

    settings = world.settings
    ledger = SlowOnce(settings, lambda *_: False)
    async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud:
        await Shift(settings, ledger, cloud, QUIET).run()
    await ledger.close()
    assert all_states(world) == {State.RETRYING: 3}
    assert world.names_created() == []
    while all_states(world) != {State.SUCCEEDED: 3}:
        await asyncio.sleep(0.1)
        await run_one_shift(world)
    jobs = world.launcher.list_jobs(limit=0)
    assert {job.attempts for job in jobs} == {1}
    fences = {
        world.launcher.ledger.redis.hget(world.launcher.ledger.keys.job(job.id), "attempt") for job in jobs
    }
    assert fences == {"2"}
    assert len(world.names_created()) == 3


async def test_no_more_calls_are_in_flight_than_there_is_room_for_and_others_are_called_to_help(
    make_world: Callable[..., World],
) -> None:
    world = make_world(cloud=CloudOptions(latency=0.1), concurrency=7)
    world.launcher.ledger.enqueue(_submissions(world, 40))
    world.launcher.ledger.redis.delete(world.launcher.ledger.keys.base + "wake")
    _, woken = await run_one_shift(world)
    assert all_states(world) == {State.SUCCEEDED: 40}
    assert world.cloud.state()["peakCreatesInFlight"] == 7
    assert woken


async def test_a_shift_that_is_to_stop_claims_nothing(world: World) -> None:
    world.launcher.ledger.enqueue(_submissions(world, 3))
    ledger, _ = await run_one_shift(world, stopping=lambda: True)
    assert ledger.asked["claim"] == 0
    assert all_states(world) == {State.QUEUED: 3}


async def test_settled_results_are_kept_until_redis_takes_them(world: World) -> None:
    world.launcher.ledger.enqueue(_submissions(world, 5))
    settings = world.settings

    class Deaf(AsyncLedger):
        refusals = 0

        async def run(self, call: Call[Any]) -> Any:
            if call.script.name == "settle" and self.refusals < 5:
                self.refusals += 1
                raise LedgerError("Redis is away")
            return await super().run(call)

    ledger = Deaf(settings.redis_url, settings.prefix)
    async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud:
        await Shift(settings, ledger, cloud, QUIET).run()
    await ledger.close()
    assert ledger.refusals == 5
    jobs = world.launcher.list_jobs(limit=0)
    assert {job.instance_id for job in jobs} == {
        instance["instanceId"] for instance in world.cloud.instances()
    }


async def test_what_was_bought_is_in_the_log_when_the_worker_stops_and_redis_is_away(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(request_timeout="1")
    world.launcher.ledger.enqueue(_submissions(world, 1))
    settings = world.settings
    stopping = False

    class Away(AsyncLedger):
        async def run(self, call: Call[Any]) -> Any:
            nonlocal stopping
            if call.script.name == "settle":
                stopping = True
                raise LedgerError("Redis is away")
            return await super().run(call)

    ledger = Away(settings.redis_url, settings.prefix)
    async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud:
        await Shift(settings, ledger, cloud, replace(QUIET, stopping=lambda: stopping)).run()
    await ledger.close()
    [instance] = world.cloud.instances()
    assert instance["instanceId"] in caplog.text


def _submissions(world: World, count: int) -> list[Any]:
    from launchq.launcher import new_id
    from tasks.jobs import Submission
    from tasks.request import parse_request

    return [Submission.of(parse_request(body(f"job-{number:02}")), new_id()) for number in range(count)]


def claims(world: World) -> Counter[str]:
    """How many jobs were claimed how often."""
    ledger = world.launcher.ledger
    return Counter(ledger.redis.hget(ledger.keys.job(job.id), "attempt") for job in ledger.list_jobs(limit=0))


class TestReserve:
    """What is claimed ahead of the calls: here two jobs, for four calls at a time."""

    async def one_shift(
        self,
        world: World,
        *,
        stopping: Callable[[], bool] = lambda: False,
        before_settling: Callable[[], None] = lambda: None,
        jobs: int = 8,
    ) -> None:
        """A shift that begins as if calls had been ending quickly. It has 20 seconds.

        `before_settling` is called before results are written down, and may raise what Redis would.
        """

        class Watched(LossyLedger):
            async def run(self, call: Call[Any]) -> Any:
                if call.script.name == "settle":
                    await asyncio.to_thread(before_settling)
                return await super().run(call)

        world.launcher.set_token(world.cloud.mint_token())
        # Exact names wait for a first listing, and quick calls would be long ago by then.
        unique = [
            replace(one, policy=replace(one.policy, unique_names=True)) for one in _submissions(world, jobs)
        ]
        world.launcher.ledger.enqueue(unique)
        settings, ledger = world.settings, Watched(world.settings, lambda *_: False)
        async with Cloud(settings.api_url, timeout=settings.request_timeout) as cloud, asyncio.timeout(20):
            around = Surroundings(stopping, wake_up=lambda: None, messages_wait=lambda: False)
            shift = Shift(settings, ledger, cloud, around)
            shift._lately.extend([2] * TURNS)
            await shift.run()
        await ledger.close()

    async def test_it_takes_the_place_of_a_call_that_created_something_before_redis_has_been_told(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(cloud=CloudOptions(latency=0.05), concurrency=4)

        def all_taken_are_sent() -> None:
            wait_until(lambda: world.cloud.state()["creates"] >= 6, description="the reserve is sent")

        await self.one_shift(world, before_settling=all_taken_are_sent, jobs=6)
        assert all_states(world) == {State.SUCCEEDED: 6}
        assert world.cloud.state()["peakCreatesInFlight"] == 4
        assert claims(world) == {"1": 6}

    async def test_what_calls_have_no_room_for_in_time_goes_back_for_others(
        self, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shift_module, "RESERVE_PATIENCE", 0.1)
        world = make_world(cloud=CloudOptions(latency=0.6), concurrency=4)
        await self.one_shift(world)
        assert all_states(world) == {State.SUCCEEDED: 8}
        assert len(world.names_created()) == len(set(world.names_created())) == 8
        assert claims(world) == {"1": 6, "2": 2}
        assert {job.attempts for job in world.launcher.list_jobs(limit=0)} == {1}

    async def test_a_worker_that_stops_gives_it_back_at_once(
        self, make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shift_module, "RESERVE_PATIENCE", 60)
        world = make_world(cloud=CloudOptions(latency=0.3), concurrency=4)
        await self.one_shift(world, stopping=lambda: world.cloud.state()["creates"] > 0)
        assert all_states(world) == {State.SUCCEEDED: 4, State.RETRYING: 2, State.QUEUED: 2}
        assert len(world.names_created()) == 4

    async def test_where_the_account_cannot_pay_nothing_of_it_is_sent(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(cloud=CloudOptions(latency=0.1, balance=0.0), concurrency=4)
        await self.one_shift(world)
        assert world.cloud.state()["creates"] == 4
        assert world.names_created() == []

    async def test_while_redis_takes_no_results_nothing_more_is_bought(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(cloud=CloudOptions(latency=0.05), concurrency=4)
        bought: list[int] = []

        def away_for_a_while() -> None:
            bought.append(world.cloud.state()["creates"])
            if len(bought) < 4:
                raise LedgerError("Redis is away")

        await self.one_shift(world, before_settling=away_for_a_while, jobs=20)
        assert bought[1] == bought[2] == bought[3] <= 6
        assert all_states(world) == {State.SUCCEEDED: 20}


class TestShiftsOfOneProcess:
    @pytest.fixture
    def shifts(self, world: World) -> Iterator[Shifts]:
        made = Shifts(world.settings)
        yield made
        made.close()

    def _enter_and_run(self, world: World, shifts: Shifts, name: str) -> set[str]:
        """One job and a shift for it; which connections Redis has then."""
        job = world.launcher.submit(body(name))
        shifts.run(QUIET)
        assert world.job(job.id).state is State.SUCCEEDED
        return {client["id"] for client in world.launcher.ledger.redis.client_list()}

    def test_the_connection_passes_from_one_to_the_next(self, world: World, shifts: Shifts) -> None:
        first = self._enter_and_run(world, shifts, "job-1")
        assert self._enter_and_run(world, shifts, "job-2") == first

    def test_but_not_after_a_long_rest(
        self, world: World, shifts: Shifts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shift_module, "IDLE", -1.0)
        first = self._enter_and_run(world, shifts, "job-1")
        assert first - self._enter_and_run(world, shifts, "job-2")

    def test_one_that_was_cut_meanwhile_costs_nothing(self, world: World, shifts: Shifts) -> None:
        for number in range(3):
            self._enter_and_run(world, shifts, f"job-{number}")
            world.launcher.ledger.redis.client_kill_filter(_type="normal", skipme=True)
        assert Counter(world.names_created()) == {f"job-{number}": 1 for number in range(3)}

    def test_what_one_has_left_behind_does_not_go_on_in_the_next(
        self, world: World, shifts: Shifts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ends: list[str] = []

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("given up")

        async def leave(shift: Shift, *, more: bool) -> None:
            ends.append("shift")
            shift.forgotten = asyncio.create_task(hang())  # type: ignore[attr-defined]
            await asyncio.sleep(0)

        monkeypatch.setattr(Shift, "_leave", leave)
        shifts.run(QUIET)
        assert ends == ["shift", "given up"]

    def test_a_shift_that_fails_leaves_the_next_one_its_place(
        self, world: World, shifts: Shifts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Shift, "run", lambda _: asyncio.sleep(0, 1 / 0))
            with pytest.raises(ZeroDivisionError):
                shifts.run(QUIET)
        assert self._enter_and_run(world, shifts, "job-1")
