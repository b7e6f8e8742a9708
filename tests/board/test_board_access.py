"""Who may do what at the board, and what no page of somebody else's can make a browser do."""

from __future__ import annotations

import httpx
import pytest
from board_world import Served, served

from harness import body
from launchq.board.access import Limiter
from ledger.passes import digest_of
from sandbox.redis_server import RedisServer

EVERYWHERE = ("/api/v1/jobs", "/api/v1/openapi.json", "/api/v1/events", "/metrics")
JSON = {"Content-Type": "application/json"}


class TestTokens:
    @pytest.mark.parametrize("path", EVERYWHERE)
    def test_without_a_token_nothing_is_told(self, closed: Served, path: str) -> None:
        answer = closed.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert closed.get(path, headers={"Authorization": "Bearer lqb_wrong"}).status_code == 401

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/login"])
    def test_what_tells_nothing_needs_none(self, closed: Served, path: str) -> None:
        assert closed.get(path).status_code == 200

    def test_a_token_that_may_read_only_changes_nothing(self, closed: Served) -> None:
        headers = closed.token("reader", full=False)
        assert closed.get("/api/v1/jobs", headers=headers).status_code == 200
        assert closed.get("/metrics", headers=headers).status_code == 200
        for path in ("submit", "plan", "cancel", "account/pause", "jobs/x/retry", "notify/test"):
            answer = closed.post(f"/api/v1/{path}", json=body(), headers=headers)
            assert answer.status_code == 403, path
        given = closed.client.put("/api/v1/account/token", json={"token": "a-token"}, headers=headers)
        assert given.status_code == 403
        assert not closed.launcher.account().token["present"]
        assert closed.launcher.account().state == "open"

    def test_a_token_is_kept_as_its_hash_and_ends_when_it_is_removed(self, closed: Served) -> None:
        headers = closed.token("leaver")
        token = headers["Authorization"].removeprefix("Bearer ")
        kept = closed.box.redis.hget(closed.box.keys.passes, "leaver")
        assert token not in kept
        assert digest_of(token) in kept
        assert closed.get("/api/v1/jobs", headers=headers).status_code == 200
        closed.launcher.ledger.remove_pass("leaver")
        assert closed.get("/api/v1/jobs", headers=headers).status_code == 401

    def test_who_guesses_is_made_to_wait_and_locks_nobody_out(self, redis: RedisServer) -> None:
        with served(redis, is_open=False) as board:
            good, known = board.token("good"), board.token("known")
            assert board.get("/api/v1/jobs", headers=known).status_code == 200
            wrong = {"Authorization": "Bearer lqb_wrong"}
            answers = [board.get("/api/v1/jobs", headers=wrong) for _ in range(12)]
            assert {answer.status_code for answer in answers[:10]} == {401}
            assert answers[-1].status_code == 429
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 11
            # As slow for a token that is right: otherwise guessing would go on.
            assert board.get("/api/v1/jobs", headers=good).status_code == 429
            assert board.post("/login", data={"token": "lqb_wrong"}).status_code == 429
            # But who was here before stays in, from the same address too; until the token is taken back.
            assert board.get("/api/v1/jobs", headers=known).status_code == 200
            board.launcher.ledger.remove_pass("known")
            assert board.get("/api/v1/jobs", headers=known).status_code == 401
            assert board.get("/api/v1/jobs", headers=known).status_code == 429


class TestScripts:
    def test_init_scripts_leave_for_a_full_token_alone_and_only_when_asked_for(self, closed: Served) -> None:
        full, reader = closed.token("owner"), closed.token("looker", full=False)
        script = {"enableCommonData": False, "enableDocker": False, "initScript": "password=hunter2"}
        given = body("scripted", instanceConfiguration=script)
        entered = closed.post("/api/v1/submit?batch=scripted", json=given, headers=full)
        job_id = entered.json()["jobs"][0]["id"]
        paths = ("jobs", f"jobs/{job_id}", f"jobs/{job_id}/wait?timeout=0", "batches/scripted/export")
        for headers in (full, reader):
            answers = [closed.get(f"/api/v1/{path}", headers=headers) for path in paths]
            assert all(answer.status_code == 200 for answer in answers)
            assert not any("hunter2" in answer.text for answer in answers)
        planned = closed.post("/api/v1/plan", json=given, headers=full)
        assert planned.status_code == 200
        assert "hunter2" not in planned.text + entered.text
        for path in paths[:2]:
            shown = closed.get(f"/api/v1/{path}", params={"showScript": True}, headers=full)
            assert "hunter2" in shown.text
            refused = closed.get(f"/api/v1/{path}", params={"showScript": True}, headers=reader)
            assert refused.status_code == 403
            assert "hunter2" not in refused.text
        closed.launcher.cancel([job_id])

    def test_an_error_does_not_repeat_what_was_given(self, closed: Served) -> None:
        headers = closed.token("clumsy")
        answers = [
            closed.post("/api/v1/cancel", json={"ids": "hunter2"}, headers=headers),
            closed.get("/api/v1/jobs?limit=hunter2", headers=headers),
            closed.post("/api/v1/submit", json={**body(), "initScript": "hunter2"}, headers=headers),
        ]
        assert {answer.status_code for answer in answers} == {422}
        assert not any("hunter2" in answer.text for answer in answers)


class TestBrowsers:
    def test_a_browser_logs_in_with_a_token_and_out_again(self, closed: Served) -> None:
        token = closed.token("browser")["Authorization"].removeprefix("Bearer ")
        with httpx.Client(base_url=closed.url, headers={"Accept": "text/html"}) as browser:
            assert browser.post("/login", data={"token": "lqb_wrong"}).status_code == 401
            answer = browser.post("/login", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"})
            assert answer.status_code == 303
            cookie = answer.headers["set-cookie"]
            assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
            assert "Secure" not in cookie
            assert token not in cookie
            assert browser.get("/api/v1/jobs").status_code == 200
            session = browser.cookies["launchq_session"]
            assert session not in " ".join(closed.box.names())
            browser.post("/logout", headers={"Sec-Fetch-Site": "same-origin"})
            browser.cookies.set("launchq_session", session)
            assert browser.get("/api/v1/jobs").status_code == 401

    def test_a_session_ends_with_its_token(self, closed: Served) -> None:
        token = closed.token("borrowed")["Authorization"].removeprefix("Bearer ")
        with httpx.Client(base_url=closed.url) as browser:
            browser.post("/login", data={"token": token})
            assert browser.get("/api/v1/jobs").status_code == 200
            closed.launcher.ledger.remove_pass("borrowed")
            assert browser.get("/api/v1/jobs").status_code == 401

    def test_behind_https_the_cookie_stays_there(self, closed: Served) -> None:
        token = closed.token("safe")["Authorization"].removeprefix("Bearer ")
        headers = {"X-Forwarded-Proto": "https"}
        answer = closed.post("/login", data={"token": token}, headers=headers)
        assert "Secure" in answer.headers["set-cookie"]
        closed.client.cookies.clear()

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Cookie": "launchq_session=x"},
        ],
        ids=str,
    )
    def test_another_sites_page_changes_nothing(self, board: Served, headers: dict[str, str]) -> None:
        for path in ("/api/v1/account/pause", "/login", "/logout"):
            assert board.post(path, headers=headers).status_code == 403
        assert board.launcher.account().state == "open"

    def test_its_own_pages_do(self, board: Served) -> None:
        for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": board.url}):
            assert board.post("/api/v1/account/resume", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "sort", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
    )
    def test_what_a_form_can_send_is_not_read(self, board: Served, sort: str) -> None:
        answer = board.post("/api/v1/submit", content=b"{}", headers={"Content-Type": sort})
        assert answer.status_code == 415

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "[::1"]
    )
    def test_a_name_that_was_made_to_point_here_is_not_answered(self, board: Served, host: str) -> None:
        for path in EVERYWHERE:
            assert board.get(path, headers={"Host": host}).status_code == 421
        assert board.get("/api/v1/jobs", headers={"Host": "localhost:1234"}).status_code == 200

    def test_without_tokens_nothing_comes_through_a_proxy(self, board: Served) -> None:
        answer = board.get("/api/v1/jobs", headers={"X-Forwarded-For": "203.0.113.9"})
        assert answer.status_code == 421
        assert "--require-token" in answer.json()["detail"]

    def test_every_answer_has_the_headers_that_keep_a_page_in_its_bounds(self, board: Served) -> None:
        for path in ("/login", "/static/board.css", "/api/v1/jobs", "/nothing", "/api/v1/jobs?limit=x"):
            headers = board.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
        assert board.get("/api/v1/jobs").headers["cache-control"] == "no-store"
        assert "server" not in board.get("/healthz").headers


class TestLimits:
    def test_a_body_that_is_no_file_may_not_be_large(self, board: Served) -> None:
        large = b'{"ids": ["' + b"x" * (1024 * 1024) + b'"]}'
        answer = board.post("/api/v1/cancel", content=large, headers=JSON)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"

        def drip() -> object:
            for _ in range(40):
                yield b"x" * 65536

        answer = board.post("/api/v1/cancel", content=drip(), headers=JSON)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"

    def test_a_file_may(self, board: Served) -> None:
        given = b"[" + b" " * (2 * 1024 * 1024) + b"]"
        answer = board.post("/api/v1/plan", content=given, headers=JSON)
        assert answer.status_code == 422
        assert answer.json()["problems"][0]["wrong"] == "is an empty array"

    def test_one_clients_changes_are_bounded_and_anothers_are_not(self) -> None:
        limiter = Limiter(3, 1.0)
        assert [limiter.take("a") for _ in range(3)] == [0.0, 0.0, 0.0]
        assert 0 < limiter.take("a") <= 1
        assert limiter.take("b") == 0.0

    def test_the_board_counts_changes(self, redis: RedisServer) -> None:
        with served(redis, acts=(2, 0.01)) as board:
            statuses = [board.post("/api/v1/account/resume").status_code for _ in range(3)]
            assert statuses == [200, 200, 429]
            assert board.get("/api/v1/account").status_code == 200


class TestHealth:
    def test_a_redis_that_evicts_makes_it_not_ready(self) -> None:
        with RedisServer() as own, served(own) as board:
            assert board.get("/readyz").json() == {"status": "ok"}
            board.box.redis.config_set("maxmemory-policy", "allkeys-lru")
            answer = board.get("/readyz")
            assert answer.status_code == 503
            assert "maxmemory-policy" in answer.json()["why"]
            assert board.get("/healthz").status_code == 200
            board.box.redis.config_set("maxmemory-policy", "noeviction")

    def test_without_redis_it_lives_and_says_so(self) -> None:
        with RedisServer() as own, served(own, audit=False) as board:
            own.kill()
            assert board.get("/healthz").status_code == 200
            assert board.get("/readyz").status_code == 503
            assert board.get("/api/v1/account").status_code == 503
            assert board.get("/api/v1/account").headers["content-type"] == "application/problem+json"
            assert "launchq_ledger_up 0.0" in board.get("/metrics").text
            own.start()
