"""Recurring schedules from the command line, and the example that the README uses."""

from __future__ import annotations

import json
import re
import shutil
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from harness import ROOT, World, body

ADD = ("schedule", "add", "nightly", "-", "--cron", "0 2 * * *", "--tz", "Asia/Shanghai")
ONE = json.dumps(body("a"))


def refused(world: World, *arguments: str, text: str = ONE) -> str:
    ran = world.run(*arguments, stdin=text)
    assert ran.code == 2, ran
    assert world.run("schedule", "list", "--json").document == {"schedules": []}
    return ran.err


class TestAdding:
    def test_it_tells_when_it_comes_up_and_the_same_again_changes_nothing(self, world: World) -> None:
        first, again = (world.run(*ADD, stdin=ONE).out.split("\t") for _ in range(2))
        assert (first[:2], again[:2]) == (["nightly", "added"], ["nightly", "unchanged"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d 02:00\+08:00\n", first[2])

    def test_another_one_of_the_name_is_refused_with_what_differs_unless_it_replaces(
        self, world: World
    ) -> None:
        world.run(*ADD, stdin=ONE)
        other = json.dumps(body("a", region="elsewhere"))
        ran = world.run(*ADD, stdin=other)
        assert ran.code == 2
        assert "region" in ran.err
        assert "elsewhere" not in ran.err
        assert "--replace replaces it" in ran.err
        assert world.run(*ADD, "--replace", "--json", stdin=other).document["result"] == "replaced"

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"0 2 * * *": "0 2 * *"}, '"0 2 * * *" is every day'),
            ({"0 2 * * *": "0 2 30 2 *"}, "cannot be used: bad day-of-month"),
            ({"Asia/Shanghai": "Shanghai"}, "Asia/Shanghai, Europe/Berlin or UTC"),
            ({"nightly": "night@ly"}, "characters without blanks and @"),
        ],
        ids=str,
    )
    def test_what_cannot_be_used_is_refused_with_what_would_be_right(
        self, world: World, changes: dict[str, str], says: str
    ) -> None:
        assert says in refused(world, *(changes.get(one, one) for one in ADD))

    def test_a_file_with_an_error_is_refused_as_submit_refuses_it(self, world: World) -> None:
        said = refused(world, *ADD, text=json.dumps([body("a"), body("b", nodePorts=[0])]))
        assert "nodePorts[0]" in said

    def test_what_would_have_to_be_confirmed_takes_yes(self, world: World) -> None:
        assert "--yes" in refused(world, *ADD, "--count", "101")
        weekly = json.dumps(body("a", billing={"chargeMode": "perWeek", "duration": 1}))
        assert "--yes" in refused(world, *ADD, text=weekly)
        assert world.run(*ADD, "--yes", stdin=weekly).code == 0


class TestActs:
    def test_a_schedule_is_listed_paused_resumed_run_and_removed(self, world: World) -> None:
        limits = ("--max-parallel", "1", "--stop-after-failures", "2")
        assert world.run(*ADD, *limits, stdin=ONE).code == 0
        [shown] = world.run("schedule", "list", "--json").document["schedules"]
        assert (shown["name"], shown["cron"], shown["timezone"], shown["jobs"], shown["paused"]) == (
            "nightly", "0 2 * * *", "Asia/Shanghai", 1, False,
        )  # fmt: skip
        times = [
            datetime.fromisoformat(one["at"])
            for one in world.run("schedule", "next", "nightly", "-n", "3", "--json").document["next"]
        ]
        assert [later - sooner for sooner, later in pairwise(times)] == [timedelta(days=1)] * 2
        assert world.run("schedule", "pause", "nightly").out == "nightly\tpaused\n"
        assert world.run("schedule", "next").out == ""
        assert re.match(r"nightly\t\d{4}-", world.run("schedule", "resume", "nightly").out)
        made = world.run("schedule", "run", "nightly")
        assert re.fullmatch(r"nightly@\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00\n", made.out)
        batch = world.run("status", made.out.strip(), "--json").document
        assert (batch["total"], batch["maxParallel"], batch["stopAfterFailures"]) == (1, 1, 2)
        assert "by hand" in world.run("schedule", "list").out
        assert world.run("schedule", "remove", "nightly").code == 0
        assert world.run("schedule", "run", "nightly").code == 2
        assert world.run("status", made.out.strip()).code == 0, "its batches stay"


def test_the_example_is_added_as_it_says_and_makes_what_plan_shows(world: World) -> None:
    shutil.copy(ROOT / "examples" / "nightly.yaml", world.folder)
    words = re.search(
        r"^#   launchq (schedule add .*)$", (world.folder / "nightly.yaml").read_text("utf-8"), re.M
    )
    assert words is not None
    arguments = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', words.group(1))]
    assert world.run(*arguments).code == 0
    world.worker(processes=1)
    batch = world.run("schedule", "run", "nightly").out.strip()
    assert world.run("wait", batch, "--timeout", "30s").code == 0
    planned = [job["name"] for job in world.run("plan", "nightly.yaml", "--json").document["jobs"]]
    assert sorted(name.rsplit("-", 1)[0] for name in world.names_created()) == sorted(planned)


def test_plan_reads_start_times_and_warns_of_those_that_are_past(world: World) -> None:
    launch = {"name": "a", "schedule": {"at": "2020-01-01T02:00"}}
    text = json.dumps({"defaults": body("x"), "launches": [launch]})
    shown = world.run("plan", "-", "--json", stdin=text)
    assert shown.document["jobs"][0]["policy"]["notBefore"].startswith("2020-01-01T02:00:00")
    assert "lies in the past" in shown.err
    launch["schedule"] = {"at": "half past two"}
    wrong = world.run("plan", "-", stdin=json.dumps({"defaults": body("x"), "launches": [launch]}))
    assert (wrong.code, "schedule.at" in wrong.err) == (2, True)
