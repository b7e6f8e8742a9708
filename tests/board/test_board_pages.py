"""The board's pages, as a browser gets them: what they show, in which language, and what their forms do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from board_world import Served, served

from harness import ROOT, body
from launchq.board.pages.words import WORDS
from ledger_box import report
from notice_receiver import Receiver, Reply
from sandbox.redis_server import RedisServer
from tasks.states import Event, State

PAGES = ("/", "/batches", "/jobs", "/uncertain", "/schedules", "/submit")
NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture
def site(redis: RedisServer) -> Iterator[Served]:
    """A board of a ledger with a batch that failed in part, an uncertain job, one that waits for later, and a schedule."""
    with served(redis, audit=False) as board:
        box = board.box
        box.enter("good", "bad", "worse", batch="nightly")
        for job in box.claim().jobs:
            name = json.loads(job.request or "{}")["name"]
            box.settle(
                report(job, Event.CREATE)
                if name == "good"
                else report(job, Event.FAIL, category="rejected", message=f"no such image {NASTY}")
            )
        box.in_state(State.UNCERTAIN, "doubtful")
        board.client.put(
            "/api/v1/schedules/weekdays", params={"cron": "0 8 * * 1-5"}, json=[body("scheduled")]
        )
        yield board


def page(board: Served, path: str, **options: Any) -> str:
    answer = board.get(path, **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def post(board: Served, path: str, **fields: str) -> httpx.Response:
    return board.client.post(path, data={"to": "/jobs", **fields}, headers={"Sec-Fetch-Site": "same-origin"})


def job_of(board: Served, name: str) -> Any:
    return next(job for job in board.launcher.list_jobs(limit=0) if job.name == name)


def test_every_page_is_small_and_holds_nothing_that_its_own_policy_forbids(site: Served) -> None:
    for path in (*PAGES, "/batches/nightly", f"/jobs/{job_of(site, 'bad').id}"):
        text = page(site, path)
        assert len(text.encode()) < 100_000, path
        assert not re.search(
            r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?://(?!www.w3.org)",
            text.replace("&lt;img src=x onerror=alert(1)&gt;", ""),
        ), path
        assert NASTY not in text
    assert "no such image &lt;img" in page(site, "/batches/nightly")


def test_the_overview_counts_and_links(site: Served) -> None:
    text = page(site, "/")
    for state, count in (("succeeded", 1), ("failed", 2), ("uncertain", 1)):
        assert re.search(rf'<a href="/jobs\?state={state}"><span class="count">{count}</span>', text)
    assert "none alive: nothing is launched" in text
    assert '<a href="/batches/nightly">nightly</a>' in text


def test_languages_are_the_browsers_until_one_is_chosen(site: Served) -> None:
    assert '<html lang="en">' in page(site, "/")
    chinese = page(site, "/", headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert '<html lang="zh-CN">' in chinese
    assert "最近的批次" in chinese
    answer = post(site, "/language", choice="en")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert '<html lang="en">' in page(site, "/", headers={"Accept-Language": "zh-CN"})
    site.client.cookies.clear()


def test_every_text_is_in_both_languages_and_used_somewhere() -> None:
    assert all(english and chinese for english, chinese in WORDS.values())
    folder = ROOT / "launchq" / "board"
    files = [
        path for path in folder.rglob("*") if path.suffix in {".html", ".py"} and path.name != "words.py"
    ]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    # Made up of a prefix and what the ledger says: states, events, whom a batch is held by.
    made = {*map(str, State), "open", "paused", "blocked", "soldOut", "narrow"}
    named = {name for name in WORDS if f"'{name}'" in text or f'"{name}"' in text}
    rest = {name for name in WORDS if not name.startswith(("event_", "next_", "held_"))} - named - made
    assert rest == set()


def test_jobs_are_filtered_and_paged(site: Served) -> None:
    site.box.enter(*(f"many-{number:02}" for number in range(60)))
    first = page(site, "/jobs?text=many")
    assert first.count("<tr><td><a href=") == 50
    [more] = re.findall(r'rel="next" href="([^"]*)"', first)
    assert page(site, more.replace("&amp;", "&")).count("<tr><td><a href=") == 10
    assert page(site, "/jobs?state=failed&batch=nightly").count("<tr><td><a href=") == 2
    assert "many-00" not in page(site, "/jobs?state=nonsense&after=nonsense&text=good")


def test_a_job_tells_its_story_and_never_its_script(site: Served) -> None:
    secret = body("secretive")
    secret["instanceConfiguration"]["initScript"] = "sentinel-script"
    [job_id] = [job["id"] for job in site.post("/api/v1/submit", json=[secret]).json()["jobs"]]
    text = page(site, f"/jobs/{job_id}")
    assert "sentinel" not in text
    assert "(hidden, 15 characters)" in text
    assert "It waits for its turn." in text
    failed = page(site, f"/jobs/{job_of(site, 'bad').id}")
    assert "it failed" in failed
    assert "Nothing: it has ended." in failed


def test_failed_jobs_of_one_message_are_retried_together_and_a_batch_is_held(site: Served) -> None:
    assert "Retry these" in page(site, "/batches/nightly")
    post(site, "/batches/nightly/retry", message="another message")
    assert site.launcher.batch("nightly").counts[State.FAILED] == 2
    answer = post(site, "/batches/nightly/retry", message=f"no such image {NASTY}")
    assert answer.status_code == 303
    assert site.launcher.batch("nightly").counts[State.FAILED] == 0
    post(site, "/batches/nightly/pause")
    assert "Held by a person" in page(site, "/batches/nightly")
    post(site, "/batches/nightly/resume")
    post(site, "/batches/nightly/cancel")
    assert site.launcher.batch("nightly").counts[State.CANCELLED] == 2


def test_an_uncertain_job_is_resolved_and_what_cannot_be_done_is_said(site: Served) -> None:
    job = job_of(site, "doubtful")
    assert job.sent_name in page(site, "/uncertain")
    refused = post(site, f"/jobs/{job.id}/retry")
    resolved = post(site, f"/jobs/{job.id}/resolve", what="not_created", reason="looked <b>twice</b>")
    assert (refused.status_code, resolved.status_code) == (303, 303)
    assert site.launcher.job(job.id).state is State.FAILED
    assert "looked &lt;b&gt;twice" in page(site, f"/jobs/{job.id}")
    again = post(site, f"/jobs/{job.id}/resolve", what="not_created")
    assert again.status_code in {303, 409}


def test_the_account_is_paused_and_goes_on(site: Served) -> None:
    post(site, "/account/pause")
    assert "at the board" in page(site, "/") or "paused" in page(site, "/")
    assert site.launcher.account().state == "paused"
    post(site, "/account/resume")
    assert site.launcher.account().state == "open"


def test_the_workers_are_given_a_token_which_no_page_shows(site: Served) -> None:
    assert 'action="/account/token"' in page(site, "/")
    wrong = post(site, "/account/token", token="two words")
    assert wrong.status_code == 409
    assert "this is no token" in wrong.text
    assert "two words" not in wrong.text
    assert post(site, "/account/token", token=" a-token.of-somebody ").headers["location"] == "/"
    assert site.launcher.account().token["present"]
    assert "of-somebody" not in page(site, "/")


def test_the_addresses_of_notifications_are_tried_and_never_shown(redis: RedisServer) -> None:
    with Receiver() as good, Receiver([Reply(404, b"no such hook")]) as bad:
        both = f"slack:{good.url}/secret-1 slack:{bad.url}/secret-2"
        with served(redis, notify=both) as board:
            overview = page(board, "/")
            assert 'action="/notify/test"' in overview
            told = post(board, "/notify/test").text
            assert re.search(r"slack\S*: sent<", told)
            assert re.search(r"slack\S*: not sent: .*404", told)
            assert "secret-" not in overview + told
            assert len(good.arrived) == 1


def test_what_could_not_be_checked_of_an_instance_is_shown_once_it_is_the_jobs(site: Served) -> None:
    job = job_of(site, "doubtful")
    said = post(site, f"/jobs/{job.id}/resolve", what="created", created="notebook-1")
    assert said.status_code == 200
    assert "it could not be checked that notebook-1 exists" in said.text
    assert 'href="/jobs"' in said.text
    assert site.launcher.job(job.id).instance_id == "notebook-1"


def test_schedules_are_shown_for_a_week_and_acted_on(site: Served) -> None:
    text = page(site, "/schedules")
    assert text.count("<strong>weekdays</strong> ") in {4, 5, 6}
    post(site, "/schedules/weekdays/pause")
    assert "<strong>weekdays</strong>" not in page(site, "/schedules")
    post(site, "/schedules/weekdays/run")
    assert any(job.name == "scheduled" for job in site.launcher.list_jobs(limit=0))
    post(site, "/schedules/weekdays/remove")
    assert "weekdays" not in page(site, "/schedules")


class TestSubmitting:
    def test_nothing_is_entered_before_the_plan_has_been_seen(self, site: Served) -> None:
        given = json.dumps(body("fresh"))
        plan = post(site, "/submit", text=given, count="3", batch="new", unique="on", action="plan")
        assert "Plan: 3 would be launched" in plan.text
        assert "fresh-01 … fresh-03" in plan.text
        assert "new" not in page(site, "/batches")
        launched = post(site, "/submit", text=given, count="3", batch="new", unique="on", action="launch")
        assert (launched.status_code, launched.headers["location"]) == (303, "/batches/new")
        assert site.launcher.batch("new").total == 3
        assert job_of(site, "fresh-01").unique_names

    def test_all_that_is_wrong_is_said_and_what_was_given_is_still_there(self, site: Served) -> None:
        given = json.dumps(body("fresh", nodePorts=[0]))
        answer = post(site, "/submit", text=given, count="1", action="launch")
        assert answer.status_code == 422
        assert "nodePorts[0]" in answer.text
        assert "&#34;fresh&#34;" in answer.text

    def test_what_costs_much_takes_the_number_typed(self, site: Served) -> None:
        fields = {"text": json.dumps(body("fresh")), "count": "101", "action": "launch"}
        assert post(site, "/submit", **fields, confirm="100").status_code == 428
        assert not any(job.name.startswith("fresh") for job in site.launcher.list_jobs(limit=0))
        assert post(site, "/submit", **fields, confirm="101").status_code == 200

    def test_an_input_is_stored_as_a_schedule_and_a_wrong_one_is_said_beside_its_plan(
        self, site: Served
    ) -> None:
        fields = {"text": json.dumps(body("again")), "count": "2", "action": "schedule", "schedule": "daily"}
        wrong = post(site, "/submit", **fields, cron="0 2 * *", zone="UTC")
        assert wrong.status_code == 422
        assert "is every day at two" in wrong.text
        assert "Plan: 2 would be launched" in wrong.text
        stored = post(site, "/submit", **fields, cron="0 2 * * *", zone="UTC")
        assert (stored.status_code, stored.headers["location"]) == (303, "/schedules")
        assert "daily" in page(site, "/schedules")
        assert not any(job.name.startswith("again") for job in site.launcher.list_jobs(limit=0))

    def test_a_file_is_taken_like_a_text(self, site: Served) -> None:
        file = {"file": ("fleet.yaml", json.dumps([body("filed")]).encode())}
        answer = site.client.post("/submit", data={"action": "plan", "count": "1"}, files=file)
        assert "Plan: 1 would be launched" in answer.text


def test_a_token_that_may_read_only_sees_no_buttons_and_changes_nothing(closed: Served) -> None:
    headers = closed.token("reader", full=False)
    text = page(closed, "/", headers=headers)
    assert "This token may read only." in text
    for path in ("/account/pause", "/account/token", "/notify/test"):
        assert path not in text
        assert closed.client.post(path, data={"token": "a"}, headers=headers).status_code == 403, path
    chosen = closed.client.post("/language", data={"choice": "zh", "to": "/jobs"}, headers=headers)
    assert (chosen.status_code, chosen.headers["location"]) == (303, "/jobs")
    closed.client.cookies.clear()
    assert closed.get("/", headers={"Accept": "text/html"}).status_code in {303, 307, 401}


def test_another_sites_form_changes_nothing(site: Served) -> None:
    answer = site.client.post("/account/pause", data={"to": "/"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert site.launcher.account().state == "open"
