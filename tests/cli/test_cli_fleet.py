"""Fleet files and CSV from the command line: planned, confirmed, launched, resumed, watched and exported."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from harness import ROOT, World, body, wait_until
from launchq.cli.follow import WINDOW, Tally
from sandbox import CloudOptions
from sandbox.catalogue import REGION_ID
from tasks.jobs import Job, JobError
from tasks.states import State

EXAMPLES = ROOT / "examples"
GPU = "dc25f5be-0000-4000-8000-5030e3358c41"
NOWHERE = {"redis_url": "redis://127.0.0.1:9/0", "api_url": "http://127.0.0.1:9/api"}


def fleet(*launches: dict[str, Any], **head: Any) -> str:
    return json.dumps({"defaults": body("x"), **head, "launches": launches})


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, world: World, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launchq", *arguments],
            env={**world.environment, "TERM": "xterm"},
            cwd=world.folder,
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self.master, False)
        self.said = ""

    def read(self) -> str:
        with suppress(OSError):  # nothing to read now, or nobody there any more
            self.said += os.read(self.master, 1 << 16).decode(errors="replace")
        return self.said

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.read(), description=f"it says {text!r}, after {self.said[-2000:]!r}")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode() + b"\n")

    def end(self) -> int:
        wait_until(lambda: (self.read(), self.process.poll())[1] is not None, description="the command ends")
        self.read()
        os.close(self.master)
        return self.process.returncode


class TestPlan:
    def test_it_calls_nobody_and_groups_what_is_alike(self, world: World) -> None:
        (world.folder / "f.json").write_text(
            fleet(
                {"name": "a-{index:03}", "count": 50},
                {"name": "b", "isSpotInstance": True, "retry": {"until": "6h"}, "schedule": {"at": "02:00"}},
                batch="nightly",
            ),
            encoding="utf-8",
        )
        ran = world.run("plan", "f.json", **NOWHERE)
        assert ran.code == 0, ran
        rows = [line.split("\t") for line in ran.out.splitlines()]
        assert [(row[0], row[4], row[5], re.sub(r"\d{4}-\d\d-\d\d", "DAY", row[6])) for row in rows] == [
            ("50", "on demand", "a-001 … a-050", "-"),
            ("1", "spot", "b", "at DAYT02:00:00+08:00; until 6 h are over"),
        ]
        assert "51 instances would be launched. Nothing was." in ran.err
        document = world.run("plan", "f.json", "--json", **NOWHERE).document
        assert document["batchId"] == "nightly"
        assert [group["count"] for group in document["groups"]] == [50, 1]
        assert "stock" not in document["groups"][0]
        assert [job["name"] for job in document["jobs"]][49:] == ["a-050", "b"]
        assert document["jobs"][50]["policy"]["until"] == 6 * 3600
        assert world.cloud.requests() == []

    def test_the_schema_is_printed_and_needs_nothing(self, world: World) -> None:
        ran = world.run("plan", "--schema", **NOWHERE)
        assert ran.document["$defs"]["Launch"]
        assert world.run("plan", **NOWHERE).code == 2

    def test_a_fallbacks_script_is_hidden(self, world: World) -> None:
        change = {"instanceConfiguration": {"initScript": "export KEY=top-secret"}}
        text = fleet({"fallbacks": [change]})
        for words in (["plan", "-", "--json"], ["plan", "-"]):
            ran = world.run(*words, stdin=text)
            assert ran.code == 0
            assert "top-secret" not in ran.out + ran.err
        assert "top-secret" in world.run("plan", "-", "--json", "--show-script", stdin=text).out

    def test_prices_ask_for_the_catalogue_alone_and_what_it_lacks_is_unknown(self, world: World) -> None:
        known = {"instanceTypeId": GPU, "region": REGION_ID}
        text = fleet(
            {"name": "a", "count": 10, **known},
            {"name": "b", "count": 2, **known, "billing": {"chargeMode": "perDay", "duration": 3}},
            {"name": "c"},
        )
        world.launcher.set_token(world.cloud.mint_token())
        ran = world.run("plan", "-", "--prices", stdin=text)
        assert ran.code == 0, ran
        assert [line.split("\t")[-3:] for line in ran.out.splitlines()] == [
            ["in stock", "120.00 an hour", "until it ends"],
            ["in stock", "22.00 an hour", "1584.00"],
            ["stock unknown", "price unknown", "price unknown"],
        ]
        assert "142.00 an hour in all" in ran.err
        assert "unknown for 1 of the instances" in ran.err
        groups = world.run("plan", "-", "--prices", "--json", stdin=text).document["groups"]
        assert [(one["stock"], one["pricePerHour"], one["priceOfPeriod"]) for one in groups] == [
            ("InStock", 120, None), ("InStock", 22, 1584), (None, None, None),
        ]  # fmt: skip
        assert world.names_created() == []

    @pytest.mark.parametrize("gone", ["token", "redis", "api", "refused"])
    def test_prices_that_are_not_to_be_had_are_unknown_and_no_error(self, world: World, gone: str) -> None:
        if gone in ("api", "refused"):
            world.launcher.set_token("made-up" if gone == "refused" else world.cloud.mint_token())
        settings = {"redis": {"redis_url": NOWHERE["redis_url"]}, "api": {"api_url": NOWHERE["api_url"]}}
        ran = world.run("plan", "-", "--prices", stdin=fleet({"name": "a"}), **settings.get(gone, {}))
        assert ran.code == 0, ran
        assert ran.out.rstrip("\n").endswith("stock unknown\tprice unknown\tprice unknown")
        assert "stock and prices are unknown: " in ran.err


class TestConfirming:
    MANY = fleet({"name": "a", "count": 101})
    LONG = fleet({"name": "a", "billing": {"chargeMode": "perWeek"}})

    @pytest.mark.parametrize("text", [MANY, LONG, json.dumps([body(f"n{number}") for number in range(101)])])
    @pytest.mark.parametrize("extra", [[], ["--json"]])
    def test_without_a_terminal_it_takes_yes(self, world: World, text: str, extra: list[str]) -> None:
        ran = world.run("submit", "-", "--batch", "b", *extra, stdin=text)
        assert ran.code == 2, ran
        assert "--yes" in ran.err + ran.out
        if extra:
            assert "--yes" in ran.document["error"]["message"]
        assert sum(world.launcher.account().counts.values()) == 0
        assert world.run("submit", "-", "--batch", "b", "--yes", *extra, stdin=text).code == 0
        assert sum(world.launcher.account().counts.values()) in (1, 101)

    def test_a_hundred_by_the_hour_need_no_confirmation(self, world: World) -> None:
        assert world.run("submit", "-", "--count", "100", stdin=json.dumps(body())).code == 0

    def test_a_count_of_the_command_line_counts(self, world: World) -> None:
        assert world.run("submit", "-", "--count", "101", stdin=json.dumps(body())).code == 2
        assert sum(world.launcher.account().counts.values()) == 0

    @pytest.mark.parametrize(("typed", "code"), [("101", 0), ("y", 2), ("", 2), ("100", 2)])
    def test_at_a_terminal_the_number_is_typed(self, world: World, typed: str, code: int) -> None:
        (world.folder / "f.json").write_text(self.MANY, encoding="utf-8")
        terminal = Terminal(world, "submit", "f.json", "--batch", "b")
        terminal.wait_for("type how many: 101")
        assert "a-01 … a-101" in terminal.said
        assert sum(world.launcher.account().counts.values()) == 0
        terminal.type(typed)
        assert terminal.end() == code, terminal.said
        assert sum(world.launcher.account().counts.values()) == (101 if code == 0 else 0)


class TestSubmitting:
    def test_resuming_enters_only_what_is_new(self, world: World) -> None:
        def submitted(count: int, *more: dict[str, Any]) -> list[bool]:
            text = fleet(*more, {"name": "a-{index}", "count": count}, batch="nightly")
            ran = world.run("submit", "-", "--json", stdin=text)
            assert ran.document["batchId"] == "nightly"
            return [job["duplicate"] for job in ran.document["jobs"]]

        assert submitted(2) == [False, False]
        assert submitted(2) == [True, True]
        assert submitted(3, {"name": "b"}) == [False, True, True, False]
        assert world.launcher.batch("nightly").total == 4

    def test_a_changed_entry_is_refused_with_its_difference_and_enters_nothing(self, world: World) -> None:
        assert world.run("submit", "-", stdin=fleet({"name": "a", "count": 2}, batch="b")).code == 0
        changed = fleet({"name": "a", "count": 2, "region": "elsewhere"}, {"name": "c"}, batch="b")
        ran = world.run("submit", "-", stdin=changed)
        assert ran.code == 2
        assert "entry 'a[2]'" in ran.err
        assert "differing: region" in ran.err
        assert world.launcher.batch("b").total == 2

    def test_a_count_that_comes_later_is_refused_rather_than_launched_beside(self, world: World) -> None:
        assert world.run("submit", "-", stdin=fleet({"name": "a"}, batch="b")).code == 0
        ran = world.run("submit", "-", stdin=fleet({"name": "a", "count": 3}, batch="b"))
        assert ran.code == 2
        assert "differing: name" in ran.err
        assert world.launcher.batch("b").total == 1

    def test_the_option_goes_over_the_files_batch_and_two_names_need_it(self, world: World) -> None:
        for name in ("one", "two"):
            text = fleet({"name": name}, batch=name)
            (world.folder / f"{name}.json").write_text(text, encoding="utf-8")
        assert world.run("submit", "one.json", "two.json").code == 2
        ran = world.run("submit", "one.json", "two.json", "--batch", "both", "--json")
        assert ran.document["batchId"] == "both"
        assert world.launcher.batch("both").total == 2

    def test_policies_of_a_file_are_the_jobs_and_options_go_over_them(self, world: World) -> None:
        text = fleet({"name": "a", "retry": {"maxAttempts": 2}, "uniqueNames": True}, {"name": "b"})
        for options, expected in (([], ["2", None]), (["--max-attempts", "4"], ["4", "4"])):
            jobs = world.run("submit", "-", "--json", *options, stdin=text).document["jobs"]
            redis, base = world.launcher.ledger.redis, world.launcher.ledger.keys.base
            names = [redis.hget(f"{base}job:{job['id']}", "template") for job in jobs]
            assert [redis.hget(f"{base}template:{name}", "maxAttempts") for name in names] == expected
            assert [world.job(job["id"]).unique_names for job in jobs] == [True, False]

    def test_equal_names_are_warned_of_unless_they_are_made_unique(self, world: World) -> None:
        text = fleet({"name": "a"}, {"name": "a"}, {"name": "b"})
        assert "2 instances would have the same name, a" in world.run("plan", "-", stdin=text).err
        assert "same name" in world.run("submit", "-", stdin=text).err
        assert "same name" not in world.run("submit", "-", "--unique-names", stdin=text).err


class TestExamples:
    def test_the_fleet_file_is_launched_and_resumed(self, world: World) -> None:
        shutil.copy(EXAMPLES / "fleet.yaml", world.folder)
        world.worker(processes=1)
        ran = world.run("submit", "fleet.yaml", "--wait", "--json")
        assert ran.code == 0, ran
        assert ran.document["batchId"] == "nightly-training"
        created = world.names_created()
        assert len(created) == 15
        assert sum(name.startswith("trainer-0") for name in created) == 10
        assert {"eval-perHour-50", "eval-tidePerHour-100", "notebook"} <= set(created)
        again = world.run("submit", "fleet.yaml", "--json")
        assert all(job["duplicate"] for job in again.document["jobs"])
        assert len(world.names_created()) == 15

    def test_the_csv_is_launched(self, world: World) -> None:
        shutil.copy(EXAMPLES / "fleet.csv", world.folder)
        world.worker(processes=1)
        ran = world.run("submit", "fleet.csv", "--batch", "b", "--wait", "--json")
        assert ran.code == 0, ran
        assert sorted(world.names_created()) == ["notebook", "trainer-001", "trainer-002", "trainer-003"]

    def test_the_spot_file_takes_what_there_is(self, make_world: Callable[..., World]) -> None:
        world = make_world(capacity_interval="0.3")
        shutil.copy(EXAMPLES / "spot.yaml", world.folder)
        [here, there, _] = (request["region"] for request in spot_requests(world))
        kind = spot_requests(world)[0]["instanceTypeId"]
        for region, free in ((here, 0), (there, 1)):
            world.cloud.set_capacity(region, kind, free, is_spot_instance=True)
        world.worker(processes=1)
        ids = [job["id"] for job in world.run("submit", "spot.yaml", "--json").document["jobs"]]
        wait_until(
            lambda: any(world.job(one).ended for one in ids),
            description="the one that is free elsewhere is taken",
        )
        [got] = [job for job in map(world.job, ids) if job.ended]
        assert (got.fallback, got.document()["request"]["region"]) == (1, there)
        assert "fallback: 1, which changes region" in world.run("status", got.id).out
        wait_until(
            lambda: "waits for capacity" in world.run("status", "spot-trainers").out,
            description="the status says what they wait for",
        )
        world.cloud.set_capacity(here, kind, 3, is_spot_instance=True)
        assert world.run("wait", "spot-trainers", "--timeout", "20s").code == 0
        assert Counter(job.fallback for job in map(world.job, ids)) == {1: 1, 0: 3}


def spot_requests(world: World) -> list[dict[str, Any]]:
    """What the example asks for: as given, and with each of its fallbacks."""
    job = world.run("plan", "spot.yaml", "--json").document["jobs"][0]
    return [job["request"], *(job["request"] | one["change"] for one in job["policy"]["fallbacks"])]


class TestWatching:
    def test_piped_it_tells_changes_and_in_the_end_counts_and_errors(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world()
        for name in ("b", "c"):
            world.cloud.script_faults("message:不行", name=name)
        world.worker(processes=1)
        batch = world.launcher.submit_many([body(name) for name in "abc"], batch="b")
        ran = world.run("watch", "b")
        assert ran.code == 3
        assert ran.out.splitlines() == ["1 succeeded, 2 failed", "2 × 不行"]
        assert "a\tsucceeded\t" in ran.err
        document = world.run("watch", "b", "--json").document
        assert document == {
            "total": 3,
            "counts": {"succeeded": 1, "failed": 2},
            "errors": [{"message": "不行", "count": 2}],
            "timedOut": False,
        }
        assert batch.total == 3
        assert world.run("watch", "none").code == 2

    def test_at_a_terminal_there_is_one_picture_with_counts_rate_and_errors(
        self, make_world: Callable[..., World]
    ) -> None:
        world = make_world(cloud=CloudOptions(latency=1.5), concurrency=4)
        world.cloud.script_faults("message:不行", name="n00")
        world.worker(processes=1)
        world.launcher.submit_many([body(f"n{number:02}") for number in range(12)], batch="b")
        terminal = Terminal(world, "watch", "b")
        terminal.wait_for("1 × 不行")
        terminal.wait_for("/s, about 0:00:")
        assert terminal.end() == 3
        assert "12/12" in terminal.said
        assert "11 succeeded, 1 failed" in terminal.said

    def test_ctrl_c_stops_the_watching_and_says_that_the_jobs_go_on(self, world: World) -> None:
        world.launcher.submit_many([body("a")], batch="b")
        terminal = Terminal(world, "watch", "b")
        terminal.wait_for("0/1")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "Jobs that were submitted go on" in terminal.said
        assert world.launcher.batch("b").counts[State.QUEUED] == 1

    def test_it_stops_when_its_time_is_over(self, world: World) -> None:
        world.launcher.submit_many([body("a")], batch="b")
        ran = world.run("watch", "b", "--timeout", "300ms", "--json")
        assert (ran.code, ran.document["timedOut"]) == (4, True)


class TestExporting:
    def test_names_ids_and_errors_in_the_order_of_the_names(self, make_world: Callable[..., World]) -> None:
        world = make_world()
        world.cloud.script_faults('message:字段 "a", 未设置', name="n-2")
        world.worker(processes=1)
        world.launcher.submit_many([body("n-10"), body("n-9")], batch="b", unique_names=True)
        world.launcher.submit_many([body("n-2")], batch="b")
        world.run("wait", "b")
        ran = world.run("export", "b")
        assert ran.code == 0
        rows = list(csv.DictReader(io.StringIO(ran.out)))
        assert [row["name"] for row in rows] == ["n-2", "n-9", "n-10"]
        assert [row["message"] for row in rows] == ['字段 "a", 未设置', "", ""]
        assert [row["instanceName"] for row in rows][1:] != ["n-9", "n-10"]
        assert {row["instanceName"] for row in rows} == {world.job(row["id"]).sent_name for row in rows}
        for row in rows:
            job = world.job(row["id"])
            assert row["instanceId"] == (job.instance_id or "")
            assert row["state"] == job.state
        for words in (["--json"], ["--format", "json"]):
            document = world.run("export", "b", *words).document
            assert document["batchId"] == "b"
            assert [{key: value or "" for key, value in one.items()} for one in document["jobs"]] == rows
        assert world.run("export", "none").code == 2


def job(number: int, state: State, message: str = "") -> Job:
    now = datetime.now(UTC)
    error = JobError("transient", message) if message else None
    return Job(str(number), "b", "n", state, None, None, error, 1, None, now, now, {})


class TestTally:
    def test_counts_follow_every_change(self) -> None:
        tally = Tally(3, 0)
        changes: Sequence[tuple[int, State, str]] = [
            (1, State.QUEUED, ""), (2, State.QUEUED, ""), (1, State.RETRYING, "busy"), (2, State.RETRYING, "busy"),
            (1, State.SUBMITTING, "busy"), (1, State.SUCCEEDED, ""), (2, State.FAILED, "no"),
        ]  # fmt: skip
        for number, state, message in changes:
            tally.update(job(number, state, message), 1)
        assert {state: count for state, count in tally.counts.items() if count} == {
            State.SUCCEEDED: 1,
            State.FAILED: 1,
        }
        assert tally.ended == 2
        assert tally.errors == {"no": 1}

    def test_rate_and_time_left_look_back_on_the_latest_ends_only(self) -> None:
        tally = Tally(100, 0)
        for number in range(40):
            tally.update(job(number, State.QUEUED), 0)
        assert (tally.rate(5), tally.left(5)) == (0, None)
        for number in range(20):
            tally.update(job(number, State.SUCCEEDED), 10)
        assert (tally.rate(10), tally.left(10)) == (2, 40)
        assert tally.rate(10 + WINDOW + 1) == 0

    def test_jobs_that_had_ended_before_are_no_rate(self) -> None:
        tally = Tally(2, 0)
        tally.update(job(1, State.SUCCEEDED), 0)
        assert (tally.ended, tally.rate(1)) == (1, 0)

    def test_the_latest_errors_come_first(self) -> None:
        tally = Tally(10, 0)
        for number in range(8):
            tally.update(job(number, State.FAILED, f"m{number}"), 0)
        tally.update(job(9, State.RETRYING, "m1"), 0)
        assert tally.latest_errors() == [("m1", 2), ("m7", 1), ("m6", 1), ("m5", 1), ("m4", 1)]

    def test_ten_thousand_jobs_are_tallied_in_no_time(self) -> None:
        tally = Tally(10_000, 0)
        began = time.process_time()
        for state in (State.QUEUED, State.SUBMITTING, State.SUCCEEDED):
            for number in range(10_000):
                tally.update(job(number, state), 1)
        assert time.process_time() - began < 3


class TestLimits:
    def test_one_wrong_field_does_not_fail_a_thousand_jobs(self, world: World) -> None:
        world.cloud.script_faults("message:镜像不存在", name="wrong-*", times=1000)
        text = fleet({"name": "wrong-{index}", "count": 1000})
        world.worker(processes=1)
        command = ("submit", "-", "--batch", "w", "--yes", "--stop-after-failures", "3", "--wait")
        ran = world.run(*command, "--json", stdin=text)
        assert ran.code == 3, ran
        assert "997 jobs are held" in ran.err
        assert world.cloud.state()["calls"]["create"] == 3
        shown = world.run("status", "w", "--json").document
        assert (shown["held"], shown["stopAfterFailures"], shown["counts"]["failed"]) == ("failures", 3, 3)
        assert "launchq resume w" in world.run("status", "w").err
        world.cloud.clear_faults()
        assert world.run("retry", "w", "--json").code == 0
        assert world.run("wait", "w", "--timeout", "60s", "--json").code == 0
        assert world.cloud.state()["instances"] == 1000

    def test_no_more_of_a_batch_are_in_flight_than_it_says(self, make_world: Callable[..., World]) -> None:
        world = make_world(CloudOptions(latency=0.1))
        world.worker(processes=1)
        text = fleet({"name": "few-{index}", "count": 12})
        ran = world.run(
            "submit", "-", "--batch", "few", "--max-parallel", "3", "--wait", "--json", stdin=text
        )
        assert ran.code == 0, ran
        assert world.cloud.state()["peakCreatesInFlight"] == 3

    def test_they_need_a_batch(self, world: World) -> None:
        for option in ("--max-parallel", "--stop-after-failures"):
            ran = world.run("submit", "-", option, "3", stdin=json.dumps(body()))
            assert (ran.code, "--batch" in ran.err) == (2, True)


class TestPause:
    def test_a_batch_and_the_account_wait_for_a_persons_word(self, world: World) -> None:
        assert world.run("pause", "nobody").code == 2
        world.run("submit", "-", "--batch", "b", stdin=fleet({"name": "b"}))
        assert world.run("pause", "b", "--json").document["batches"][0]["held"] == "person"
        assert "`launchq resume b`" in world.run("pause", "b").out
        assert world.run("pause", "--json").document["account"]["state"] == "paused"
        assert "person" in world.run("status").out
        [job] = world.launcher.list_jobs(batch="b")
        other = world.run("submit", "-", "--json", stdin=json.dumps(body("other"))).document["jobs"][0]["id"]
        world.worker(processes=1)
        wait_until(lambda: world.launcher.account().workers, description="a worker lives")
        assert world.run("resume").code == 0
        world.wait_for(other, State.SUCCEEDED)
        assert world.job(job.id).state is State.QUEUED
        assert world.run("resume", "b").code == 0
        world.wait_for(job.id, State.SUCCEEDED)
