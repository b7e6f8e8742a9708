"""The door itself: scripts and their tables, events, errors, and the same ledger from an event loop."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry

from ledger import AsyncLedger, Ledger, calls, notices, schedules, stock
from ledger.keys import NAMES, Keys
from ledger.scripts import Script, _head, script
from ledger.vault import PLAIN
from ledger_box import DELAYS, Box, report, submission
from tasks.errors import LedgerError
from tasks.states import ENDS, MOVES, Event, State


class TestScripts:
    def test_they_go_by_the_one_table_of_states(self, box: Box) -> None:
        text = _head() + "\nreturn {cjson.encode(MOVES), cjson.encode(ENDS), cjson.encode(NAMES)}"
        moves, ends, names = (json.loads(part) for part in box.redis.eval(text, 1, "x", box.keys.base))
        # An empty table of Lua is an empty list in JSON.
        assert {state: dict(row) for state, row in moves.items()} == {
            str(state): {str(event): str(new) for event, new in row.items()} for state, row in MOVES.items()
        }
        assert set(ends) == set(ENDS)
        assert names == NAMES

    def test_every_file_is_a_script_that_some_call_uses(self) -> None:
        from pathlib import Path

        folder = Path(calls.__file__).parent / "lua"
        files = {path.stem for path in folder.glob("*.lua")} - {"prelude", "outbox"}
        modules = (Path(module.__file__) for module in (calls, notices, schedules, stock))
        source = "".join(path.read_text(encoding="utf-8") for path in modules)
        assert {name for name in files if f'script("{name}")' in source} == files

    def test_a_server_that_forgot_them_is_told_again(self, box: Box) -> None:
        box.enter("a")
        box.redis.script_flush()
        assert box.tick() is not None
        box.redis.script_flush()
        assert len(box.claim().jobs) == 1

    def test_they_are_made_once(self) -> None:
        assert script("claim") is script("claim")
        assert script("claim").sha == Script("claim").sha != script("settle").sha

    def test_all_keys_of_a_ledger_share_one_hash_tag(self, box: Box) -> None:
        for state in (State.SUCCEEDED, State.SUBMITTING):
            box.in_state(state, f"n-{state}", batch="nightly")
        box.enter("k", key="k")
        box.ledger.run(calls.store_token("t", vault=PLAIN, source="login"))
        box.tick()
        tagged = "{" + box.prefix + "}:"
        names = list(box.redis.scan_iter(match=f"*{box.prefix}*", count=1000))
        assert len(names) > 10
        assert all(name.startswith(tagged) for name in names)

    def test_the_keys_that_python_names_are_those_of_the_table(self) -> None:
        keys = Keys("p")
        named = {
            keys.job("1"): "job", keys.batch("1"): "batch", keys.entries("1"): "entries", keys.key("1"): "key",
            keys.events + "1": "events", keys.account + "1": "account", keys.workers + "1": "workers",
        }  # fmt: skip
        assert {key: "{p}:" + NAMES[name] + "1" for key, name in named.items()} == {key: key for key in named}

    def test_two_prefixes_do_not_see_each_other(self, box: Box) -> None:
        box.enter("a")
        with Box(box.url, box.prefix + "-other") as other:
            assert other.claim().jobs == ()
            assert other.ledger.list_jobs() == []


class TestArguments:
    def test_what_may_be_secret_is_not_shown(self) -> None:
        for call in (
            calls.enqueue([submission("a", body="secret")], vault=PLAIN),
            calls.store_token("secret", vault=PLAIN, source="x"),
            calls.claim(
                "c", limit=1, lease=1, worker="w", api_key="secret", first=True, watching=True, vault=PLAIN
            ),
        ):
            assert "secret" not in repr(call)
        assert "secret" not in repr(submission("a", body="secret"))
        assert "secret" not in repr(calls.Claimed("j", "1", "secret"))


class TestEvents:
    def test_they_tell_every_change_in_its_order(self, box: Box) -> None:
        box.enter("a", batch="nightly")
        start = box.ledger.last_event()
        job = box.take()
        box.settle(report(job, Event.DEFER, category="transient", message="refused"))
        box.cancel(job.id)
        told = [fields for _, fields in box.ledger.events(start)]
        assert told == [
            {"job": job.id, "state": "submitting", "attempt": "1", "batchId": "nightly"},
            {"job": job.id, "state": "retrying", "attempt": "1", "reason": "transient", "batchId": "nightly"},
            {"job": job.id, "state": "cancelled", "attempt": "1", "batchId": "nightly"},
        ]

    def test_the_latest(self, box: Box) -> None:
        assert box.ledger.last_event() == "0-0"
        assert box.ledger.latest_events(5) == []
        ids = box.enter("a", "b", "c")
        assert [fields["job"] for _, fields in box.ledger.latest_events(2)] == ids[1:]
        assert box.ledger.last_event() == box.ledger.latest_events(1)[0][0]

    def test_no_more_than_asked_for(self, box: Box) -> None:
        ids = box.enter("a", "b", "c")
        first = box.ledger.events("0-0", count=2)
        assert [fields["job"] for _, fields in first] == ids[:2]
        assert [fields["job"] for _, fields in box.ledger.events(first[-1][0])] == ids[2:]

    def test_waiting_for_one_ends_when_it_comes(self, box: Box) -> None:
        last = box.ledger.last_event()
        entering = threading.Timer(0.05, box.enter, ["a"])
        entering.start()
        began = time.monotonic()
        events = box.ledger.events(last, block=4)
        entering.join()
        assert [fields["state"] for _, fields in events] == ["queued"]
        assert time.monotonic() - began < 2

    def test_waiting_in_vain_ends_in_time(self, box: Box) -> None:
        assert box.ledger.events("0-0", block=0.01) == []

    def test_messages_and_requests_are_not_in_them(self, box: Box) -> None:
        box.ledger.enqueue([submission("a", body='{"initScript": "secret"}')])
        box.settle(report(box.take(), Event.FAIL, category="rejected", message="secret"))
        assert "secret" not in repr(box.ledger.events("0-0"))


class TestAsync:
    async def test_it_is_the_same_ledger(self, box: Box) -> None:
        [job_id] = box.enter("a")
        ledger = AsyncLedger(box.url, box.prefix)
        try:
            claim = await ledger.run(
                calls.claim(
                    "c1", limit=5, lease=60, worker="w", api_key="k", first=True, watching=False, vault=PLAIN
                )
            )
            assert [job.id for job in claim.jobs] == [job_id]
            assert await ledger.run(
                calls.settle([report(claim.jobs[0], Event.CREATE)], calls.AccountNews(), verify_delays=DELAYS)
            ) == ["succeeded"]
        finally:
            await ledger.close()
        assert box.read(job_id).state is State.SUCCEEDED

    async def test_a_server_that_forgot_the_scripts_is_told_again(self, box: Box) -> None:
        box.redis.script_flush()
        ledger = AsyncLedger(box.url, box.prefix)
        try:
            assert (await ledger.run(calls.status())).state == "open"
        finally:
            await ledger.close()

    async def test_without_redis_the_error_is_ours(self) -> None:
        ledger = AsyncLedger("redis://:secret-password@127.0.0.1:1/0")
        try:
            with pytest.raises(LedgerError, match=r"127\.0\.0\.1:1") as caught:
                await ledger.run(calls.status())
        finally:
            await ledger.close()
        assert "secret" not in str(caught.value)


class TestOutOfReach:
    @pytest.mark.parametrize(
        "act",
        [
            lambda ledger: ledger.run(calls.status()),
            lambda ledger: ledger.batch("x"),
            lambda ledger: ledger.batch_job_ids("x"),
            lambda ledger: ledger.jobs(["x"]),
            lambda ledger: ledger.list_jobs(),
            lambda ledger: ledger.last_event(),
            lambda ledger: ledger.events("0-0"),
            lambda ledger: ledger.forget_worker("w"),
            lambda ledger: ledger.server(),
        ],
    )
    def test_the_error_is_ours(self, act: Any) -> None:
        ledger = Ledger("redis://127.0.0.1:1/0")
        ledger.redis.set_retry(Retry(NoBackoff(), 0))
        with pytest.raises(LedgerError, match=r"127\.0\.0\.1:1"):
            act(ledger)
        ledger.close()

    def test_a_script_that_redis_cannot_run_is_told_as_it_is(self, box: Box) -> None:
        box.redis.set(box.keys.account, "not a hash")
        with pytest.raises(LedgerError, match="WRONGTYPE"):
            box.claim()
        box.redis.delete(box.keys.account)


def test_what_the_server_says_of_itself(box: Box) -> None:
    server = box.ledger.server()
    assert server["maxmemory_policy"] == "noeviction"
    assert (server["aof_enabled"], server["appendfsync"]) == (0, "everysec")
    assert 0 < server["latency"] < 5
    assert "redis_version" in server
