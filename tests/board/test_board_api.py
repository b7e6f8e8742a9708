"""The board's HTTP API: the command line's acts and documents, over a socket."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from typing import Any

import httpx
import pytest
from board_world import Served, served

from harness import body, wait_until
from launchq.board import models
from ledger import calls
from ledger_box import report
from notice_receiver import Receiver, Reply
from sandbox.redis_server import RedisServer
from tasks.states import Event, State

FLEET = """
batch: from-a-file
defaults:
  imageId: 7a81788c-xxxx-xxxx-xxxx-2409e3c8150c
  instanceTypeId: dc25f5be-xxxx-xxxx-xxxx-5030e3358c41
  region: fce31a0c-xxxx-xxxx-xxxx-41caa1bdd251
  billing: {chargeMode: perHour, duration: 1}
  remoteStorages: []
  instanceConfiguration: {enableCommonData: false, enableDocker: false, initScript: "secret=hunter2"}
  nodePorts: []
launches:
  - name: gpu-{index}
    count: 3
"""


def failed(board: Served, name: str, **parameters: Any) -> str:
    """A job that the cloud has refused."""
    [job_id] = board.submit(name, **parameters)
    job = board.box.take()
    assert job.id == job_id
    board.box.settle(report(job, Event.FAIL, category="rejected", message="镜像不存在"))
    return job_id


class TestSubmitting:
    def test_a_body_becomes_a_job_with_the_command_lines_document(self, board: Served) -> None:
        [job_id] = board.submit("one")
        document = board.get(f"/api/v1/jobs/{job_id}").json()
        assert document == board.launcher.job(job_id).document()
        assert board.post(f"/api/v1/jobs/{job_id}/cancel").json()["jobs"] == [
            {"id": job_id, "state": "cancelled", "result": "cancelled"}
        ]

    @pytest.mark.parametrize(
        ("text", "sort"),
        [
            (FLEET, "application/yaml"),
            ("\n".join(json.dumps(body(f"gpu-{n}")) for n in range(1, 4)), "application/x-ndjson"),
        ],
    )
    def test_what_the_command_line_takes_is_taken_as_it_is(self, board: Served, text: str, sort: str) -> None:
        for status, duplicate in ((201, False), (200, True)):
            answer = board.post(
                "/api/v1/submit", params={"batch": sort}, content=text, headers={"Content-Type": sort}
            )
            assert answer.status_code == status, answer.text
            assert [job["name"] for job in answer.json()["jobs"]] == ["gpu-1", "gpu-2", "gpu-3"]
            assert {job["duplicate"] for job in answer.json()["jobs"]} == {duplicate}
        board.post("/api/v1/cancel", json={"ids": [sort]})

    def test_a_fleet_file_names_its_batch(self, board: Served) -> None:
        answer = board.post("/api/v1/plan", content=FLEET, headers={"Content-Type": "application/yaml"})
        plan = answer.json()
        assert plan["batchId"] == "from-a-file"
        assert [group["count"] for group in plan["groups"]] == [3]
        assert plan["confirm"] is None
        assert "hunter2" not in answer.text

    def test_wishes_go_over_the_body(self, board: Served) -> None:
        [job_id] = board.submit(
            "wished", spot=True, maxAttempts=3, until="2h", **{"in": "1h"}, uniqueNames=True
        )
        job = board.launcher.job(job_id)
        assert job.state is State.SCHEDULED
        assert job.request is not None
        assert job.request["isSpotInstance"] is True
        assert job.unique_names
        board.launcher.cancel([job_id])

    def test_limits_are_the_batchs(self, board: Served) -> None:
        board.submit("held-1", "held-2", batch="bounded", maxParallel=1, stopAfterFailures=2)
        document = board.get("/api/v1/batches/bounded").json()
        assert (document["maxParallel"], document["stopAfterFailures"]) == (1, 2)
        board.launcher.cancel(["bounded"])

    def test_everything_that_is_wrong_is_said_with_the_field_it_is_in(self, board: Served) -> None:
        wrong = [body("a", region=7), body("b", billing={"chargeMode": "perHour", "duration": 0})]
        answer = board.post("/api/v1/submit", json=wrong)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        problems = {(one["where"], one["path"]) for one in answer.json()["problems"]}
        assert problems == {("body, entry 1", "region"), ("body, entry 2", "billing.duration")}

    def test_a_parameter_that_is_not_known_is_an_error(self, board: Served) -> None:
        answer = board.post("/api/v1/submit", params={"batchName": "x"}, json=body("slip"))
        assert answer.status_code == 422
        assert [one["path"] for one in answer.json()["problems"]] == ["batchName"]

    @pytest.mark.parametrize(
        ("given", "parameters"),
        [
            (body("many"), {"count": 101}),
            (body("long", billing={"chargeMode": "perMonth", "duration": 1}), {}),
        ],
    )
    def test_a_costly_slip_must_be_confirmed_by_its_number(
        self, board: Served, given: dict[str, Any], parameters: dict[str, Any]
    ) -> None:
        total = parameters.get("count", 1)
        params = {**parameters, "batch": f"costly-{total}"}
        for confirm in ({}, {"confirm": total + 1}):
            answer = board.post("/api/v1/submit", params={**params, **confirm}, json=given)
            assert answer.status_code == 428
            assert [one["path"] for one in answer.json()["problems"]] == ["confirm"]
        assert board.get(f"/api/v1/batches/costly-{total}").status_code == 404
        assert board.post("/api/v1/plan", params=parameters, json=given).json()["confirm"] == total
        answer = board.post("/api/v1/submit", params={**params, "confirm": total}, json=given)
        assert answer.status_code == 201
        board.launcher.cancel([f"costly-{total}"])

    def test_the_idempotency_key_is_the_jobs(self, board: Served) -> None:
        headers = {"Idempotency-Key": "订单-7".encode()}
        first = board.post("/api/v1/submit", json=body("keyed"), headers=headers)
        again = board.post("/api/v1/submit", json=body("keyed"), headers=headers)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["jobs"][0]["id"] == again.json()["jobs"][0]["id"]
        assert board.box.redis.get(board.box.keys.key("订单-7")) == first.json()["jobs"][0]["id"]
        other = board.post("/api/v1/submit", json=body("other"), headers=headers)
        assert other.status_code == 409
        assert "differing: name" in other.json()["detail"]
        board.launcher.cancel([first.json()["jobs"][0]["id"]])


class TestActs:
    def test_what_failed_is_made_due_again(self, board: Served) -> None:
        job_id = failed(board, "refused")
        assert board.get(f"/api/v1/jobs/{job_id}").json()["error"]["message"] == "镜像不存在"
        [done] = board.post("/api/v1/retry", json={"ids": [job_id]}).json()["jobs"]
        assert done == {"id": job_id, "state": "queued", "result": "rearmed"}
        board.launcher.cancel([job_id])

    def test_an_uncertain_job_is_resolved_by_who_was_logged_in(self, closed: Served) -> None:
        headers = closed.token("ann")
        closed.post("/api/v1/submit", json=body("doubtful"), headers=headers)
        job = closed.box.take()
        closed.box.settle(report(job, Event.DOUBT, category="unknown", message="timeout"))
        path = f"/api/v1/jobs/{job.id}/resolve"
        assert closed.post(path, json={"notCreated": True}, headers=headers).status_code == 409
        two = {"one": "doubtful", "other": "doubtful"}
        assert closed.box.look_up_in_time(job.id, two) == "uncertain"
        both = closed.post(path, json={"created": "one", "notCreated": True}, headers=headers)
        assert both.status_code == 422
        answer = closed.post(path, json={"notCreated": True, "reason": "looked"}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] == "failed"
        assert {one["by"] for one in answer.json()["history"] if one["event"] == "fail"} == {
            "ann, at the board"
        }

    def test_an_instance_that_cannot_be_looked_up_is_taken_with_a_warning(self, board: Served) -> None:
        [job_id] = board.submit("unseen")
        job = board.box.take()
        board.box.settle(report(job, Event.DOUBT, category="unknown", message="timeout"))
        two = {"notebook-1": "unseen", "notebook-2": "unseen"}
        assert board.box.look_up_in_time(job.id, two) == "uncertain"
        answer = board.post(f"/api/v1/jobs/{job_id}/resolve", json={"created": "notebook-1"})
        assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
        [warning] = answer.json()["warnings"]
        assert "could not be checked that notebook-1 exists" in warning

    def test_a_body_that_is_no_json_is_said_to_be_none(self, board: Served) -> None:
        answer = board.post(
            "/api/v1/cancel", content=b'{"ids":', headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["detail"]) == (422, "is no JSON; a JSON object")

    def test_a_batch_is_paused_and_goes_on(self, board: Served) -> None:
        board.submit("p-1", "p-2", batch="a/b c")
        assert board.post("/api/v1/batches/a%2Fb%20c/pause").json()["held"] == "person"
        assert board.post("/api/v1/batches/a/b c/resume").json()["held"] is None
        assert board.get("/api/v1/batches/a/b c").json()["total"] == 2
        assert len(board.post("/api/v1/batches/a/b c/cancel").json()["jobs"]) == 2

    def test_the_account_is_paused_and_goes_on(self, board: Served) -> None:
        paused = board.post("/api/v1/account/pause").json()["account"]
        assert (paused["state"], paused["reason"]) == ("paused", "person")
        assert "at the board" in paused["message"]
        assert board.post("/api/v1/account/resume").json()["account"]["state"] == "open"

    def test_a_blocked_account_is_given_a_token_which_is_never_told_again(self, redis: RedisServer) -> None:
        with served(redis) as board:
            board.launcher.ledger.run(calls.block("no token", credentials="", refused=False))
            assert board.get("/api/v1/account").json()["account"]["state"] == "blocked"
            path, token = "/api/v1/account/token", "a-token.of-somebody"
            for wrong in ("two words", "", "x" * 16_385):
                answer = board.client.put(path, json={"token": wrong})
                assert answer.status_code == 422, wrong
                assert "two words" not in answer.text
            assert board.get("/api/v1/account").json()["account"]["state"] == "blocked"
            answer = board.client.put(path, json={"token": f" AccessToken={token}\n"})
            assert answer.status_code == 200, answer.text
            document = answer.json()
            assert (document["account"]["state"], document["token"]["source"]) == ("open", "set-token")
            assert token not in answer.text + board.get("/api/v1/account").text
            ledger = board.launcher.ledger
            assert ledger.redis.hget(ledger.keys.token, "value") == token

    def test_the_addresses_of_notifications_are_tried(self, redis: RedisServer) -> None:
        with Receiver() as good, Receiver([Reply(404, b"no such hook")]) as bad:
            both = f"slack:{good.url}/secret-1 slack:{bad.url}/secret-2"
            with served(redis, notify=both) as board:
                answer = board.post("/api/v1/notify/test")
                [first, second] = answer.json()
                assert (first["sent"], first["message"], second["sent"]) == (True, None, False)
                assert "404" in second["message"]
                assert "secret-" not in answer.text
                assert len(good.arrived) == 1
                named = {field.alias for field in models.TrialDocument.model_fields.values()}
                assert set(first) == named

    def test_without_an_address_nothing_is_tried_and_it_is_said_why(self, board: Served) -> None:
        answer = board.post("/api/v1/notify/test")
        assert (answer.status_code, "LAUNCHQ_NOTIFY" in answer.json()["detail"]) == (409, True)

    @pytest.mark.parametrize(
        "path",
        ["jobs/none", "batches/none", "jobs/none/wait", "batches/none/wait", "batches/none/export"],
    )
    def test_what_does_not_exist_is_not_found(self, board: Served, path: str) -> None:
        answer = board.get(f"/api/v1/{path}")
        assert answer.status_code == 404
        assert answer.json()["status"] == 404

    def test_a_batchs_end_is_exported_as_on_the_command_line(self, board: Served) -> None:
        board.submit("e-10", "e-9", batch="exported")
        board.launcher.cancel(["exported"])
        rows = list(csv.DictReader(io.StringIO(board.get("/api/v1/batches/exported/export?format=csv").text)))
        assert [row["name"] for row in rows] == ["e-9", "e-10"]
        document = board.get("/api/v1/batches/exported/export").json()
        assert [row["state"] for row in document["jobs"]] == ["cancelled", "cancelled"]


class TestLists:
    def test_pages_show_every_job_once_and_the_latest_change_first(self, board: Served) -> None:
        ids = board.submit(*(f"Page-{n:02}" for n in range(25)), batch="paged")
        board.launcher.cancel(ids[:5])
        found: list[dict[str, Any]] = []
        after = ""
        while after is not None:
            page = board.get("/api/v1/jobs", params={"batch": "paged", "limit": 7, "after": after}).json()
            found += page["jobs"]
            after = page["next"]
        assert sorted(job["id"] for job in found) == sorted(ids)
        assert [job["updatedAt"] for job in found] == sorted(
            (job["updatedAt"] for job in found), reverse=True
        )
        assert {job["id"] for job in found[:5]} == set(ids[:5])
        filters = {"batch": "paged", "state": "queued", "text": "page-1"}
        names = [job["name"] for job in board.get("/api/v1/jobs", params=filters).json()["jobs"]]
        assert sorted(names) == [f"Page-{n}" for n in range(10, 20)]
        board.launcher.cancel(["paged"])

    def test_batches_come_newest_first(self, board: Served) -> None:
        for name in ("old", "new"):
            board.launcher.cancel(board.submit(f"in-{name}", batch=name))
            time_of = board.launcher.batch(name).created_at
            wait_until(
                lambda at=time_of: board.launcher.ledger.time() > at.timestamp() + 0.002,
                description="the next millisecond",
            )
        first = board.get("/api/v1/batches", params={"limit": 1}).json()
        second = board.get("/api/v1/batches", params={"limit": 1, "after": first["next"]}).json()
        assert [first["batches"][0]["id"], second["batches"][0]["id"]] == ["new", "old"]

    def test_the_documents_are_described_as_they_are(self, board: Served) -> None:
        board.launcher.cancel(board.submit("described", batch="described"))
        account = board.get("/api/v1/account").json()
        shown = {
            models.JobDocument: board.get("/api/v1/jobs?limit=1").json()["jobs"][0],
            models.BatchDocument: board.get("/api/v1/batches?limit=1").json()["batches"][0],
            models.AccountDocument: account,
            models.AccountStateDocument: account["account"],
            models.TokenDocument: account["token"],
            models.HappeningDocument: board.get("/api/v1/jobs?limit=1").json()["jobs"][0]["history"][0],
        }
        for model, document in shown.items():
            named = {field.alias for field in model.model_fields.values()}
            assert set(document) == named, model.__name__


class TestWaiting:
    def test_a_wait_answers_when_the_job_ends(self, board: Served) -> None:
        [job_id] = board.submit("waited", batch="waited")
        assert board.get(f"/api/v1/jobs/{job_id}/wait?timeout=0").json()["timedOut"] is True
        answers: dict[str, httpx.Response] = {}

        def ask(path: str) -> None:
            answers[path] = httpx.get(f"{board.url}/api/v1/{path}/wait?timeout=20", timeout=25)

        threads = [
            threading.Thread(target=ask, args=(path,)) for path in (f"jobs/{job_id}", "batches/waited")
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: metric(board, "launchq_board_watchers") == 2, description="both wait")
        began = time.monotonic()
        board.box.settle(report(board.box.take(), Event.CREATE))
        for thread in threads:
            thread.join(15)
        assert time.monotonic() - began < 4, "the event was not heard: the next look would come 5 s later"
        assert answers[f"jobs/{job_id}"].json()["job"]["state"] == "succeeded"
        assert answers["batches/waited"].json()["batch"]["done"] is True
        assert not any(answer.json()["timedOut"] for answer in answers.values())

    def test_nobody_waits_for_a_batch_that_is_held_after_failures(self, board: Served) -> None:
        failed(board, "doomed-1", batch="doomed", stopAfterFailures=1)
        board.submit("doomed-1", "doomed-2", batch="doomed")
        answer = board.get("/api/v1/batches/doomed/wait?timeout=20").json()
        assert answer["batch"]["held"] == "failures"
        assert answer["timedOut"] is False
        board.launcher.cancel(["doomed"])


def metric(board: Served, name: str) -> float:
    """The value of a metric without labels."""
    [line] = [line for line in board.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


class TestEvents:
    def test_a_stream_tells_each_change_and_goes_on_where_it_broke_off(self, board: Served) -> None:
        job_ids = board.submit("s-1", "s-2", batch="streamed")
        [other] = board.submit("not-of-it")
        with board.client.stream("GET", "/api/v1/events?batch=streamed") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            wait_until(lambda: metric(board, "launchq_board_watchers") == 1, description="the stream watches")
            board.launcher.cancel([other, job_ids[0]])
            first = next_event(stream.iter_lines())
        assert (first["event"], first["data"]["job"], first["data"]["state"]) == (
            "change",
            job_ids[0],
            "cancelled",
        )
        assert first["id"] == first["data"]["id"]
        board.launcher.cancel([job_ids[1]])  # nobody listens
        headers = {"Last-Event-ID": first["id"]}
        with board.client.stream("GET", "/api/v1/events?batch=streamed", headers=headers) as stream:
            assert next_event(stream.iter_lines())["data"]["job"] == job_ids[1]
        wait_until(lambda: metric(board, "launchq_board_watchers") == 0, description="nobody is left over")

    def test_many_watchers_cost_redis_one_reader(self, board: Served) -> None:
        from contextlib import ExitStack

        def readers() -> int:
            return sum("cmd=xread" in line for line in map(str_of, board.box.redis.client_list()))

        wait_until(lambda: readers() >= 1, description="the one reader reads")
        before = readers()
        with ExitStack() as stack:
            for _ in range(10):
                stack.enter_context(httpx.Client().stream("GET", f"{board.url}/api/v1/events"))
            wait_until(lambda: metric(board, "launchq_board_watchers") == 10, description="all watch")
            assert readers() == before


def str_of(client: dict[str, str]) -> str:
    return f"cmd={client['cmd']}"


def next_event(lines: Any) -> dict[str, Any]:
    """The next server-sent event."""
    found: dict[str, Any] = {}
    for line in lines:
        name, _, text = line.partition(": ")
        if not line and found:
            break
        if name in {"event", "id"}:
            found[name] = text
        elif name == "data":
            found[name] = json.loads(text)
    return found
