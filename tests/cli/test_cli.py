"""The commands as a user runs them: exit codes, one JSON document on stdout, and texts that help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime

import pytest

from harness import World, body, wait_until
from ledger import calls
from ledger.version import LEDGER_VERSION
from sandbox import CloudOptions
from tasks.states import State

JOB_FIELDS = {
    "id", "batchId", "name", "state", "reason", "instanceId", "error", "attempts", "fallback", "dueAt", "createdAt", "updatedAt", "request", "history",
}  # fmt: skip


def test_the_documents_have_exactly_the_promised_fields(world: World) -> None:
    world.worker(processes=1)
    script = body(
        "doc",
        instanceConfiguration={
            "enableCommonData": False,
            "enableDocker": False,
            "initScript": "export KEY=top-secret",
        },
    )
    ran = world.run("submit", "-", "--batch", "docs", "--json", stdin=json.dumps(script))
    assert ran.document.keys() == {"batchId", "jobs"}
    assert ran.document["batchId"] == "docs"
    [receipt] = ran.document["jobs"]
    assert receipt.keys() == {"id", "name", "state", "duplicate"}
    waited = world.run("wait", "docs", "--json")
    assert waited.code == 0
    assert waited.document.keys() == {"jobs", "timedOut"}
    assert waited.document["timedOut"] is False
    job = world.run("status", receipt["id"], "--json").document
    assert job.keys() == JOB_FIELDS
    assert job == waited.document["jobs"][0]
    assert "top-secret" not in json.dumps(job)
    assert (job["state"], job["batchId"], job["error"], job["dueAt"], job["attempts"]) == (
        "succeeded",
        "docs",
        None,
        None,
        1,
    )
    for time in ("createdAt", "updatedAt"):
        assert job[time].endswith("Z")
        assert datetime.fromisoformat(job[time]).utcoffset().total_seconds() == 0  # type: ignore[union-attr]
    shown = world.run("status", receipt["id"], "--json", "--show-script").document
    assert shown["request"]["instanceConfiguration"]["initScript"] == "export KEY=top-secret"
    batch = world.run("status", "docs", "--json").document
    assert batch.keys() == {
        "id",
        "total",
        "counts",
        "createdAt",
        "done",
        "held",
        "maxParallel",
        "stopAfterFailures",
    }
    assert (batch["id"], batch["total"], batch["done"]) == ("docs", 1, True)
    assert batch["counts"] == {**dict.fromkeys(map(str, State), 0), "succeeded": 1}
    account = world.run("status", "--json").document
    assert account["account"]["state"] == "open"
    assert account["token"]["present"]
    assert account["ledgerVersion"] == LEDGER_VERSION
    assert len(account["workers"]) == 1
    events = world.run("events", "--json").document["events"]
    assert [event["state"] for event in events] == ["queued", "submitting", "succeeded"]
    assert "top-secret" not in "".join(
        world.run(*words).out for words in (["list"], ["list", "--json"], ["events"], ["status", "docs"])
    )


def test_a_single_job_without_a_batch_has_none(world: World) -> None:
    ran = world.run("submit", "-", "--json", stdin=json.dumps(body()))
    assert ran.code == 0
    assert ran.document["batchId"] is None
    assert world.run("status", ran.document["jobs"][0]["id"], "--json").document["state"] == "queued"


def test_waiting_ends_with_the_promised_exit_codes(make_world: Callable[..., World]) -> None:
    world = make_world(request_timeout="2", verify_delays="0.1,0.2")
    world.cloud.script_faults("message:不行", name="failed")
    world.cloud.script_faults("close-after", name="uncertain")
    world.cloud.script_faults("500", endpoint="list", times=10_000)
    world.cloud.script_faults("hang-before:20", name="slow")
    world.worker(processes=1)
    ids = {
        job.name: job.id
        for job in (world.launcher.submit(body(name)) for name in ("fine", "failed", "uncertain"))
    }
    assert world.run("wait", ids["fine"]).code == 0
    failed = world.run("wait", ids["fine"], ids["failed"])
    assert failed.code == 3
    assert "不行" in failed.out
    assert world.run("wait", *ids.values(), "--json").code == 5
    slow = world.launcher.submit(body("slow"))
    timed_out = world.run("wait", slow.id, "--timeout", "500ms", "--json")
    assert timed_out.code == 4
    assert timed_out.document["timedOut"] is True
    cancelled = world.launcher.submit(body("cancelled"), key="c")
    world.launcher.cancel([cancelled.id])
    assert world.run("wait", cancelled.id).code in (0, 3)  # the worker may have been quicker
    assert world.run("submit", "-", "--wait", "--timeout", "60s", stdin=json.dumps(body("again"))).code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["status", "no-such-id"],
        ["wait", "no-such-id"],
        ["cancel", "no-such-id"],
        ["retry", "no-such-id"],
        ["nonsense"],
        ["submit"],
        ["submit", "no-such-file.json"],
        ["submit", "-", "--count", "0"],
        ["submit", "-", "--max-attempts", "none"],
        ["submit", "-", "--timeout", "10s"],
        ["submit", "-", "--batch", ""],
        ["submit", "-", "--key", "x" * 201],
        ["submit", "-", "--key", ""],
        ["submit", "-", "--use-token"],
        ["list", "--state", "sleeping"],
        ["auth", "set-token"],
        ["events", "--after", "garbage"],
        ["events", "--after", "1-2-3"],
        ["events", "--after", "18446744073709551616"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2_and_says_why(world: World, words: list[str]) -> None:
    stdin = "two words" if words[0] == "auth" else json.dumps(body())
    ran = world.run(*words, "--json", stdin=stdin)
    assert ran.code == 2, ran
    plain = world.run(*words, stdin=stdin)
    assert plain.code == 2
    assert plain.err.strip()
    assert "Traceback" not in plain.err
    assert world.launcher.account().counts[State.QUEUED] == 0


def test_redis_out_of_reach_ends_with_1_and_settings_that_are_wrong_with_2(world: World) -> None:
    gone = world.run(
        "submit", "-", "--json", stdin=json.dumps(body()), redis_url="redis://:secret-word@127.0.0.1:9/0"
    )
    assert gone.code == 1
    assert "secret-word" not in gone.out + gone.err
    assert gone.document["error"]["message"]
    wrong = world.run("status", api_url="http://example.com/api")
    assert wrong.code == 2
    assert "LAUNCHQ_API_URL" in wrong.err


def test_cancel_and_retry_say_what_they_did(world: World) -> None:
    job = world.launcher.submit(body("one"))
    assert world.run("cancel", job.id, "--json").document["jobs"] == [
        {"id": job.id, "state": "cancelled", "result": "cancelled"}
    ]
    assert world.run("cancel", job.id).code == 0
    assert world.run("retry", job.id, "--json").document["jobs"] == [
        {"id": job.id, "state": "queued", "result": "rearmed"}
    ]
    world.worker(processes=1)
    world.wait_for(job.id, State.SUCCEEDED)
    for command in ("cancel", "retry"):
        late = world.run(command, job.id)
        assert late.code == 2
        assert "succeeded" in late.out
    assert len(world.names_created()) == 1


def test_a_batch_is_cancelled_and_retried_as_a_whole(world: World) -> None:
    world.launcher.submit_many([body(f"n{number}") for number in range(4)], batch="whole")
    assert world.run("cancel", "whole").code == 0
    assert world.launcher.batch("whole").counts[State.CANCELLED] == 4
    assert world.run("retry", "whole").code == 0
    world.worker(processes=1)
    assert world.run("wait", "whole").code == 0
    assert len(world.names_created()) == 4


def test_a_cancelled_call_that_is_under_way_ends_as_it_ends(make_world: Callable[..., World]) -> None:
    world = make_world(cloud=CloudOptions(latency=1.0))
    world.cloud.script_faults("429:30", name="throttled")
    world.worker(processes=1)
    ids = [world.launcher.submit(body(name)).id for name in ("created", "throttled")]
    wait_until(lambda: len(world.cloud.requests()) == 2, description="both calls are under way")
    assert {job["result"] for job in world.run("cancel", *ids, "--json").document["jobs"]} == {"requested"}
    assert world.wait_for(ids[0], State.SUCCEEDED).instance_id
    world.wait_for(ids[1], State.CANCELLED)


def test_plan_calls_nobody(world: World) -> None:
    ran = world.run(
        "plan",
        "-",
        "--count",
        "3",
        "--json",
        stdin=json.dumps(body("p")),
        redis_url="redis://127.0.0.1:9/0",
        api_url="http://127.0.0.1:9/api",
    )
    assert ran.code == 0
    assert [job["name"] for job in ran.document["jobs"]] == ["p-01", "p-02", "p-03"]


def test_unknown_fields_are_sent_unchanged_where_allowed_and_misspelled_ones_never(world: World) -> None:
    world.worker(processes=1)
    newer = body("newer", gpuPolicy={"mig": [1, 2]})
    assert world.run("submit", "-", stdin=json.dumps(newer)).code == 2
    ran = world.run("submit", "-", "--allow-unknown-fields", "--wait", "--json", stdin=json.dumps(newer))
    assert ran.code == 0, ran
    assert "gpuPolicy" in ran.err
    [arrived] = world.cloud.requests("newer")
    assert arrived["body"]["gpuPolicy"] == {"mig": [1, 2]}
    typo = world.run(
        "submit", "-", "--allow-unknown-fields", stdin=json.dumps(body("typo", isSpotInstanc=True))
    )
    assert typo.code == 2
    assert "isSpotInstance" in typo.err


def test_max_attempts_of_the_command_line_is_the_jobs(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.set(
        api_url="http://127.0.0.1:9/api", username=None, password=None, access_token=world.cloud.mint_token()
    )
    world.worker(processes=1)
    ran = world.run("submit", "-", "--max-attempts", "2", "--wait", "--json", stdin=json.dumps(body()))
    assert ran.code == 3
    [job] = ran.document["jobs"]
    assert job["error"]["category"] == "transient"
    assert world.job(job["id"]).attempts == 2


def test_a_file_that_has_grown_finds_the_job_of_its_key(world: World) -> None:
    first = world.run("submit", "-", "--key", "order", "--json", stdin=json.dumps(body("one"))).document[
        "jobs"
    ][0]
    grown = json.dumps([body("one"), body("two")])
    again = world.run("submit", "-", "--key", "order", "--json", stdin=grown).document["jobs"]
    assert [(job["id"] == first["id"], job["duplicate"]) for job in again] == [(True, True), (False, False)]
    assert world.run("submit", "-", "--key", "order", "--count", "2", stdin=json.dumps(body("one"))).code == 2
    assert world.launcher.account().counts[State.QUEUED] == 2


def test_several_files_and_json_lines_make_one_submission(world: World) -> None:
    (world.folder / "one.json").write_text(json.dumps(body("one")), encoding="utf-8")
    (world.folder / "many.jsonl").write_text(
        "\n".join(json.dumps(body(name)) for name in ("two", "one")), encoding="utf-8"
    )
    ran = world.run("submit", "one.json", "many.jsonl", "--batch", "b", "--json")
    assert [job["name"] for job in ran.document["jobs"]] == ["one", "two", "one"]
    assert world.launcher.batch("b").total == 3


def test_doctor_tells_whether_secrets_are_sealed_and_can_be_opened_here(world: World) -> None:
    def secrets(key: str) -> tuple[str, str]:
        checks = world.run("doctor", "--json", secret_key=key).document["checks"]
        [check] = [check for check in checks if check["name"] == "secrets"]
        return check["status"], check["detail"]

    old, new, strange = (world.run("auth", "new-key").out.strip() for _ in range(3))
    assert secrets(old)[0] == "ok"
    world.run("submit", "-", stdin=json.dumps(body("before")))
    assert secrets(old) == (
        "warn",
        "sealed from now on, but 1 looked at were entered before, and are in the clear",
    )
    world.launcher.cancel([job.id for job in world.launcher.list_jobs()])
    world.launcher.ledger.run(calls.tidy(0, limit=1000))
    world.run("submit", "-", stdin=json.dumps(body("sealed")), secret_key=old)
    assert secrets(f"{new},{old}") == ("ok", "sealed in Redis; 1 looked at, all can be opened here")
    for key in (strange, ""):
        status, detail = secrets(key)
        assert status == "fail"
        assert "LAUNCHQ_SECRET_KEY" in detail
        shown = world.run("list", "--json", secret_key=key)
        assert shown.code == 0
        assert [(job["name"], job["request"]) for job in shown.document["jobs"]] == [("sealed", None)]
        assert world.run("status", shown.document["jobs"][0]["id"], "--show-script", secret_key=key).code == 0


def test_a_new_key_is_one_that_the_settings_take_and_no_two_are_alike(world: World) -> None:
    one = world.run("auth", "new-key", redis_url="redis://127.0.0.1:9/0")  # needs no Redis
    two = world.run("auth", "new-key", "--json")
    assert (one.code, one.err, two.code) == (0, "", 0)
    assert one.out.strip() != two.document["key"]
    keys = f"{one.out.strip()},{two.document['key']}"
    assert world.run("list", secret_key=keys).code == 0
    refused = world.run("list", secret_key="no-key")
    assert refused.code == 2
    assert "launchq auth new-key" in refused.err
    assert "no-key" not in refused.err


def test_doctor_tells_what_is_missing_and_what_could_be_lost(world: World) -> None:
    ran = world.run("doctor", "--json", redsi_url="typo")
    checks = {check["name"]: check for check in ran.document["checks"]}
    assert ran.code == 1
    assert checks["workers"]["status"] == "fail"
    assert checks["durability"]["status"] == "warn"
    assert "no append-only file" in checks["durability"]["detail"]
    assert checks["eviction"]["status"] == "ok"
    assert checks["api"]["status"] == "ok"
    assert "LAUNCHQ_REDSI_URL" in checks["settings"]["detail"]
    assert checks["secrets"]["status"] == "warn"
    assert "LAUNCHQ_SECRET_KEY" in checks["secrets"]["detail"]
    world.worker(processes=1)
    world.launcher.submit(body())
    assert world.run("doctor").code == 0
    assert world.run("doctor", redis_url="redis://127.0.0.1:9/0").code == 1


def test_doctor_looks_at_a_broker_of_its_own(world: World) -> None:
    def checks(**settings: str) -> dict[str, dict[str, str]]:
        return {one["name"]: one for one in world.run("doctor", "--json", **settings).document["checks"]}

    assert "broker" not in checks()
    assert checks(broker_url=world.redis.url.replace("/0", "/1"))["broker"]["status"] == "ok"
    gone = checks(broker_url="redis://:secret-word@127.0.0.1:9/0")["broker"]
    assert gone["status"] == "fail"
    assert "127.0.0.1:9" in gone["detail"]
    assert "secret-word" not in str(gone)


def test_an_impossible_port_is_an_error_of_the_settings(world: World) -> None:
    ran = world.run("list", "--json", redis_url="redis://127.0.0.1:99999/0")
    assert ran.code == 2
    assert "LAUNCHQ_REDIS_URL" in ran.document["error"]["message"]
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("words", [["submit", "-", "--batch", "b", "--wait"], ["wait", "b"]], ids=" ".join)
def test_who_is_interrupted_while_waiting_still_gets_the_one_document(world: World, words: list[str]) -> None:
    requests = [body("one"), body("two")]
    if words[0] == "wait":
        world.launcher.submit_many(requests, batch="b")
    process = subprocess.Popen(
        [sys.executable, "-m", "launchq", *words, "--json"],
        env=world.environment, cwd=world.folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(requests))
        process.stdin.close()
        process.stdin = None
        raw = world.launcher.ledger.redis
        wait_until(
            lambda: any(client["cmd"] == "xread" for client in raw.client_list()),
            description="the command waits for events",
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    jobs = json.loads(out)["jobs"]
    assert [
        (job["name"], job["state"], job["instanceId"], job["error"])
        for job in sorted(jobs, key=lambda job: job["name"])
    ] == [
        ("one", "queued", None, None),
        ("two", "queued", None, None),
    ]
    assert {job["id"] for job in jobs} == set(world.launcher.resolve_ids(["b"]))
    assert "Interrupted" in err


def test_every_command_has_help_with_an_example() -> None:
    import click

    from launchq.cli import group

    def commands(parent: click.Group, path: list[str]) -> list[tuple[list[str], click.Command]]:
        found: list[tuple[list[str], click.Command]] = []
        for name in parent.list_commands(click.Context(parent)):
            command = parent.get_command(click.Context(parent), name)
            assert command is not None
            found.append(([*path, name], command))
            if isinstance(command, click.Group):
                found += commands(command, [*path, name])
        return found

    for path, command in commands(group, ["launchq"]):
        assert command.help, path
        assert "Example" in command.help, path
        assert f"{' '.join(path)}" in command.help, path


@pytest.mark.timeout(90)
def test_demo_launches_a_small_fleet_and_stops_what_it_started(world: World) -> None:
    ran = world.run("demo", "--json", timeout=80)
    assert ran.code == 0, ran
    states = {job["name"]: job["state"] for job in ran.document["jobs"]}
    assert states.pop("rejected-on-purpose") == "failed"
    assert set(states.values()) == {"succeeded"}
    assert ran.document["instancesCreated"] == len(states)
    assert "example-instance" in states


def test_up_with_a_simulated_cloud_keeps_its_hands_off_a_ledger_in_use(world: World) -> None:
    job = world.launcher.submit(body("paid for"))
    ran = world.run("up", "--sandbox", timeout=30)
    assert ran.code == 2, ran
    assert "LAUNCHQ_PREFIX" in ran.err
    assert world.job(job.id).state is State.QUEUED
    assert world.launcher.account().workers == {}


@pytest.mark.timeout(90)
def test_up_runs_everything_until_it_is_stopped(world: World) -> None:
    environment = {**world.environment}
    for name in ("REDIS_URL", "API_URL", "PREFIX"):
        environment.pop(f"LAUNCHQ_{name}")
    process = subprocess.Popen(
        [sys.executable, "-m", "launchq", "up", "--sandbox", "--processes", "1"],
        env=environment, cwd=world.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said: dict[str, str] = {}
        for line in process.stderr:
            name, _, value = line.strip().partition(": ")
            said[name] = value
            if "Ctrl-C" in line:
                break
        ran = world.run(
            "submit",
            "-",
            "--wait",
            "--json",
            stdin=json.dumps(body()),
            redis_url=said["Redis"],
            prefix="launchq",
        )
        assert ran.code == 0, ran
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()  # type: ignore[union-attr]
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    assert world.run("status", redis_url=said["Redis"]).code == 1
