"""Recurring schedules over HTTP: the acts of `launchq schedule`, with its documents."""

from __future__ import annotations

from typing import Any

import httpx
from board_world import Served

from harness import body
from launchq import schedules as functions
from launchq.board import schedules as routes


def put(board: Served, name: str, *names: str, **parameters: Any) -> httpx.Response:
    given = [body(one) for one in names]
    known = {"cron": "0 2 * * *", "tz": "Asia/Shanghai", **parameters}
    return board.client.put(f"/api/v1/schedules/{name}", params=known, json=given)


def test_a_schedule_is_stored_listed_run_paused_and_forgotten(board: Served) -> None:
    answer = put(board, "nightly", "n-1", "n-2", maxParallel=1)
    assert answer.status_code == 201, answer.text
    assert answer.json()["result"] == "added"
    document = answer.json()["schedule"]
    assert document == functions.schedule(board.launcher, "nightly").document()
    assert set(document) == {field.alias for field in routes.ScheduleDocument.model_fields.values()}
    assert board.get("/api/v1/schedules").json()["schedules"] == [document]
    assert board.get("/api/v1/schedules/nightly").json() == document
    assert (document["maxParallel"], document["stopAfterFailures"]) == (1, None)
    again = put(board, "nightly", "n-1", "n-2", maxParallel=1)
    assert (again.status_code, again.json()["result"]) == (200, "unchanged")

    triggers = board.get("/api/v1/triggers", params={"name": "nightly", "count": 3}).json()["next"]
    assert [one["at"][11:16] for one in triggers] == ["18:00"] * 3
    assert triggers[0]["batchId"].startswith("nightly@")

    made = board.post("/api/v1/schedules/nightly/run").json()
    assert [job["name"] for job in made["jobs"]] == ["n-1", "n-2"]
    assert board.get(f"/api/v1/batches/{made['batchId']}").json()["total"] == 2
    board.launcher.cancel([made["batchId"]])

    assert board.post("/api/v1/schedules/nightly/pause").json()["paused"] is True
    assert board.get("/api/v1/triggers").json() == {"next": []}
    assert board.post("/api/v1/schedules/nightly/resume").json()["paused"] is False
    assert board.client.delete("/api/v1/schedules/nightly").json() == {"name": "nightly", "removed": True}
    for path in ("nightly", "nightly/pause", "nightly/resume", "nightly/run"):
        asked = board.get if path == "nightly" else board.post
        assert asked(f"/api/v1/schedules/{path}").status_code == 404, path
    assert board.client.delete("/api/v1/schedules/nightly").status_code == 404


def test_another_schedule_of_the_name_is_refused_unless_it_is_to_replace(board: Served) -> None:
    put(board, "taken", "t-1")
    refused = put(board, "taken", "t-1", cron="0 3 * * *")
    assert refused.status_code == 409
    assert "cron (there: 0 2 * * *, here: 0 3 * * *)" in refused.json()["detail"]
    replaced = put(board, "taken", "t-1", cron="0 3 * * *", replace=True)
    assert (replaced.status_code, replaced.json()["result"]) == (200, "replaced")
    board.client.delete("/api/v1/schedules/taken")


def test_what_is_wrong_or_costs_much_stores_nothing(board: Served) -> None:
    assert put(board, "wrong", "w", cron="61 * * * *").status_code == 422
    assert put(board, "wrong", "w", tz="Mars/Base").status_code == 422
    assert put(board, "wrong@", "w").status_code == 422
    assert put(board, "wrong", "w", count=101).status_code == 428
    unread = put(board, "wrong")
    assert unread.json()["problems"][0]["wrong"] == "is an empty array"
    assert board.get("/api/v1/schedules").json() == {"schedules": []}


def test_a_token_that_may_read_only_changes_no_schedule(closed: Served) -> None:
    headers = closed.token("looker", full=False)
    assert closed.get("/api/v1/schedules", headers=headers).status_code == 200
    path = "/api/v1/schedules/nightly"
    assert (
        closed.client.put(path, params={"cron": "0 2 * * *"}, json=body(), headers=headers).status_code == 403
    )
    assert closed.client.delete(path, headers=headers).status_code == 403
    assert closed.post(f"{path}/run", headers=headers).status_code == 403
