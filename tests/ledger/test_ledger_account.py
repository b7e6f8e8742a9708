"""The account at a glance, the token that all workers share, and whose turn it is to log in."""

from __future__ import annotations

from datetime import UTC, datetime

from harness import wait_until
from ledger import calls
from ledger.calls import LOGIN_WAIT_CAP, HeldToken
from ledger.vault import PLAIN
from ledger_box import API_KEY, DELAYS, TINY, UNTOUCHED, Box, report
from tasks.states import Event, State

CREDENTIALS = "fingerprint-of-a-password"


def turn(
    box: Box, asker: str, *, held: str = "", credentials: str = CREDENTIALS, lock: float = 30
) -> tuple[str, float]:
    return box.ledger.run(calls.login_turn(asker, lasts=lock, held_version=held, credentials=credentials))


def store(box: Box, token: str = "secret-token", **fields: object) -> bool:
    values: dict[str, object] = {"source": "login", "life": 3600.0, **fields}
    return box.ledger.run(calls.store_token(token, vault=box.ledger.vault, **values))  # type: ignore[arg-type]


def held(box: Box) -> HeldToken | None:
    """The token that a worker gets with a claim."""
    return box.claim(0, api_key="").token


def let_time_pass(box: Box, credentials: str = CREDENTIALS) -> None:
    """As if the wait until these credentials' next login were over, and nobody logging in."""
    box.redis.hset(box.keys.base + "logins", f"{credentials}:next", box.now())
    box.redis.delete(box.keys.base + "login")


class TestLoginTurn:
    def test_one_at_a_time(self, box: Box) -> None:
        assert turn(box, "a") == ("go", 0)
        what, wait = turn(box, "b", credentials="others")
        assert what == "wait"
        assert 0 < wait <= 1

    def test_the_same_asker_gets_the_same_answer_again(self, box: Box) -> None:
        assert turn(box, "a") == ("go", 0)
        before = box.picture()
        assert turn(box, "a") == ("go", 0)
        assert box.picture() == before

    def test_the_turn_ends_with_a_token(self, box: Box) -> None:
        turn(box, "a")
        store(box, asker="a", credentials=CREDENTIALS)
        assert turn(box, "b") == ("fresh", 0)
        assert "login" not in box.names()

    def test_the_turn_ends_with_a_refusal(self, box: Box) -> None:
        turn(box, "a")
        box.ledger.run(calls.block("wrong password", asker="a", credentials=CREDENTIALS, refused=True))
        assert turn(box, "b", credentials="others") == ("go", 0)

    def test_only_its_holder_ends_it(self, box: Box) -> None:
        turn(box, "a")
        box.ledger.run(calls.block("no", asker="b"))
        store(box, "t", asker="b")
        assert box.redis.get(box.keys.base + "login") == "a"

    def test_a_turn_whose_worker_died_ends_by_itself(self, box: Box) -> None:
        turn(box, "a", lock=0.05)
        wait_until(
            lambda: turn(box, "b", credentials="others")[0] == "go",
            description="the lock to end",
            interval=0.005,
        )

    def test_a_token_that_another_worker_made_is_used(self, box: Box) -> None:
        store(box)
        token = held(box)
        assert token is not None
        assert turn(box, "a", held="") == ("fresh", 0)
        assert turn(box, "a", held=token.version) == ("go", 0), "this one it has already, and wants another"

    def test_a_token_that_has_ended_is_no_fresh_one(self, box: Box) -> None:
        store(box, life=TINY)
        box.wait_for_time(box.now() + 2)
        assert turn(box, "a") == ("go", 0)

    def test_logins_that_bring_nothing_become_ever_fewer(self, box: Box) -> None:
        waits = []
        for number in range(14):
            assert turn(box, f"asker-{number}") == ("go", 0)
            box.redis.delete(box.keys.base + "login")
            what, wait = turn(box, "too early")
            assert what == "wait"
            waits.append(wait)
            let_time_pass(box)
        doubled = [min(2.0**number, LOGIN_WAIT_CAP) for number in range(14)]
        assert all(expected - 0.5 < wait <= expected for wait, expected in zip(waits, doubled, strict=True))
        # What that means: how many fit into the first ten seconds, each at once when it may.
        moment, logins = 0.0, 0
        for wait in waits:
            if moment > 10:
                break
            logins, moment = logins + 1, moment + wait
        assert logins <= 5

    def test_a_token_that_works_sets_the_row_back(self, box: Box) -> None:
        for number in range(4):
            turn(box, f"asker-{number}")
            let_time_pass(box)
        turn(box, "a")
        store(box, asker="a", credentials=CREDENTIALS)
        assert turn(box, "b", held="1")[0] == "wait", (
            "that a login brought a token does not show that it is any good"
        )
        box.settle(report(claimed(box), Event.CREATE), taken="token")
        assert turn(box, "b", held="1") == ("go", 0)
        box.redis.delete(box.keys.base + "login")
        what, wait = turn(box, "c", held="1")
        assert what == "wait"
        assert 0.5 < wait <= 1, "the row begins again"

    def test_a_token_of_other_credentials_says_nothing_of_these(self, box: Box) -> None:
        turn(box, "a")
        box.redis.delete(box.keys.base + "login")
        store(box, credentials="others")
        box.settle(report(claimed(box), Event.CREATE), taken="token")
        assert turn(box, "b", held="1")[0] == "wait"

    def test_credentials_that_are_refused_do_not_hold_up_others(self, box: Box) -> None:
        turn(box, "a", credentials="wrong")
        box.ledger.run(calls.block("wrong password", asker="a", credentials="wrong", refused=True))
        assert turn(box, "b", credentials="wrong")[0] == "wait"
        assert turn(box, "c", credentials="right") == ("go", 0)


def claimed(box: Box) -> calls.Claimed:
    box.enter("a")
    return box.take()


class TestToken:
    def test_it_replaces_the_one_before_it_wholly(self, box: Box) -> None:
        store(box, "first", life=10, credentials=CREDENTIALS)
        store(box, "second", life=None, source="set-token")
        token = held(box)
        assert token is not None
        assert (token.value, token.version, token.left, token.life) == ("second", "2", None, None)
        assert "credentials" not in box.redis.hgetall(box.keys.base + "token")

    def test_until_a_time_on_the_calendar(self, box: Box) -> None:
        store(box, life=None, expires_at=box.now() // 1000 + 100)
        token = held(box)
        assert token is not None
        assert token.left is not None
        assert 98 < token.left <= 101

    def test_one_that_the_api_refused_goes(self, box: Box) -> None:
        store(box)
        box.enter("a")
        claim = box.claim(api_key="")
        assert claim.token is not None
        box.settle(
            report(claim.jobs[0], Event.DEFER, category="auth", counts=False), refused=claim.token.version
        )
        assert box.claim(api_key="").why == "token"
        assert held(box) is None

    def test_one_that_came_after_the_refused_one_stays(self, box: Box) -> None:
        """Many calls in flight with the old token are refused after the new one has come."""
        store(box, "old")
        box.enter("a", "b")
        old = box.claim(api_key="")
        store(box, "new")
        assert old.token is not None
        box.settle(report(old.jobs[0], Event.DEFER, category="auth", counts=False), refused=old.token.version)
        token = held(box)
        assert token is not None
        assert token.value == "new"

    def test_versions_are_never_used_again(self, box: Box) -> None:
        seen = set()
        for number in range(4):
            store(box, f"t{number}")
            token = held(box)
            assert token is not None
            seen.add(token.version)
            box.settle(report(claimed(box), Event.DEFER), refused=token.version)
        assert len(seen) == 4

    def test_a_configured_one_is_adopted_once(self, box: Box) -> None:
        assert store(box, "configured", source="environment", adopt="f1")
        store(box, "made by login")
        assert not store(box, "configured", source="environment", adopt="f1"), (
            "a worker that starts again brings it again"
        )
        token = held(box)
        assert token is not None
        assert token.value == "made by login"
        assert store(box, "newly configured", source="environment", adopt="f2")
        token = held(box)
        assert token is not None
        assert token.value == "newly configured"

    def test_it_is_not_in_what_a_call_shows(self) -> None:
        assert "secret" not in repr(calls.store_token("secret-token", vault=PLAIN, source="login"))
        assert "secret" not in repr(HeldToken("secret-token", "1", None, None))


class TestBlock:
    def test_an_account_without_a_token_says_why(self, box: Box) -> None:
        assert box.ledger.run(calls.block("wrong password", credentials=CREDENTIALS, refused=True))
        account = box.ledger.run(calls.status())
        assert (account.state, account.reason, account.message) == (
            "blocked",
            "credentials",
            "wrong password",
        )

    def test_what_the_api_said_is_not_written_over_by_our_waiting(self, box: Box) -> None:
        box.ledger.run(calls.block("wrong password", credentials=CREDENTIALS, refused=True))
        box.ledger.run(calls.block("the last login brought no token that works", credentials=CREDENTIALS))
        assert box.account()["message"] == "wrong password"

    def test_it_shows_when_the_next_login_may_be(self, box: Box) -> None:
        turn(box, "a")
        box.ledger.run(calls.block("wrong password", asker="a", credentials=CREDENTIALS, refused=True))
        assert box.account()["until"] == box.redis.hget(box.keys.base + "logins", f"{CREDENTIALS}:next")

    def test_not_when_a_token_has_come_meanwhile(self, box: Box) -> None:
        store(box)
        before = box.picture()
        assert not box.ledger.run(calls.block("no token"))
        assert box.picture() == before

    def test_a_token_opens_it(self, box: Box) -> None:
        box.ledger.run(calls.block("no token"))
        box.enter("a")
        store(box)
        assert box.account()["state"] == "open"
        assert len(box.claim(api_key="").jobs) == 1

    def test_a_token_does_not_open_an_account_that_cannot_pay(self, box: Box) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER, category="balance", message="余额不足", blocks=True))
        store(box)
        assert (box.account()["state"], box.account()["reason"]) == ("blocked", "balance")

    def test_no_job_fails_for_it(self, box: Box) -> None:
        [job_id] = box.enter("a")
        before = box.fields(job_id)
        box.ledger.run(calls.block("no token"))
        assert box.claim(api_key="").why == "token"
        assert box.fields(job_id) == before

    def test_since_tells_when_it_began(self, box: Box) -> None:
        box.ledger.run(calls.block("first", credentials=CREDENTIALS, refused=True))
        since = box.account()["since"]
        box.wait_for_time(box.now())
        box.ledger.run(calls.block("second", credentials=CREDENTIALS, refused=True))
        assert (box.account()["since"], box.account()["message"]) == (since, "second")


class TestRefusedApiKey:
    """No login can make another key, so it is tried again, ever less often, by one job."""

    def refuse(self, box: Box) -> None:
        box.ledger.run(
            calls.block("the API key was refused", credentials=API_KEY, refused=True, api_key=True)
        )

    def test_it_stops_its_own_workers_only(self, box: Box) -> None:
        box.enter("a", "b")
        self.refuse(box)
        claim = box.claim()
        assert (claim.why, claim.jobs) == ("blocked", ())
        assert claim.wait is not None
        assert 0 < claim.wait <= 1
        wake, wait = box.tick()
        assert not wake
        assert wait is not None
        assert 0 < wait <= 1
        assert len(box.claim(1, api_key="another").jobs) == 1
        store(box)
        assert len(box.claim(1, api_key="").jobs) == 1

    def test_a_good_token_of_others_does_not_hide_it(self, box: Box) -> None:
        store(box)
        self.refuse(box)
        assert (box.account()["state"], box.account()["message"]) == ("blocked", "the API key was refused")

    def test_it_is_tried_again_ever_less_often(self, box: Box) -> None:
        box.enter(*"abcdef")
        self.refuse(box)
        for number in range(1, 5):
            let_time_pass(box, API_KEY)
            assert len(box.claim().jobs) == 1, "one job finds out"
            self.refuse(box)
            claim = box.claim()
            assert claim.why == "blocked"
            assert claim.wait is not None
            assert 2.0**number - 0.5 < claim.wait <= 2.0**number

    def test_a_call_that_it_makes_opens_the_account(self, box: Box) -> None:
        box.enter(*"abc")
        self.refuse(box)
        let_time_pass(box, API_KEY)
        box.settle(report(box.take(), Event.CREATE), taken=API_KEY)
        assert box.account() == {"state": "open"}
        assert len(box.claim().jobs) == 2


class TestEvicting:
    def test_it_stops_claims_until_redis_no_longer_evicts(self, box: Box) -> None:
        [job_id] = box.enter("a")
        assert box.ledger.run(calls.evicting("it throws away jobs"))
        assert not box.ledger.run(calls.evicting("it throws away jobs")), "no news"
        claim = box.claim()
        assert (claim.why, claim.wait, claim.jobs) == ("blocked", None, ())
        assert box.tick() == (False, None)
        account = box.ledger.run(calls.status())
        assert (account.state, account.reason, account.message, account.until) == (
            "blocked", "evicting", "it throws away jobs", None,
        )  # fmt: skip
        assert box.ledger.run(calls.evicting(""))
        assert box.take().id == job_id

    def test_it_opens_nothing_else(self, box: Box) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER, category="balance", message="no", blocks=True))
        before = box.picture()
        assert not box.ledger.run(calls.evicting(""))
        assert box.picture() == before


class TestGreet:
    def test_credentials_that_nobody_refused_open_it(self, box: Box) -> None:
        box.ledger.run(calls.block("wrong password", credentials="wrong", refused=True))
        assert box.ledger.run(calls.greet("right"))
        assert box.account() == {"state": "open"}

    def test_refused_ones_do_not(self, box: Box) -> None:
        turn(box, "a", credentials="wrong")
        box.ledger.run(calls.block("wrong password", asker="a", credentials="wrong", refused=True))
        assert not box.ledger.run(calls.greet("wrong"))
        before = box.picture()
        assert not box.ledger.run(calls.greet(""))
        assert box.picture() == before

    def test_they_open_nothing_else(self, box: Box) -> None:
        box.enter("a")
        box.settle(report(box.take(), Event.DEFER, category="balance", message="no", blocks=True))
        before = box.picture()
        assert not box.ledger.run(calls.greet("right"))
        assert box.picture() == before

    def test_an_open_account_is_left_alone(self, box: Box) -> None:
        assert not box.ledger.run(calls.greet("right"))
        assert box.names() == sorted([*UNTOUCHED, "account"])
        assert box.account() == {}


class TestPulseWithoutToken:
    def test_it_wakes_who_may_log_in(self, box: Box) -> None:
        def tick(credentials: str) -> tuple[bool, float | None]:
            box.redis.delete(box.keys.base + "wake")
            return box.ledger.run(
                calls.tick("w1", credentials=credentials, has_api_key=False, verify_delays=DELAYS)
            )

        box.enter("a")
        assert tick("") == (True, 0), "the first one without a token says so"
        turn(box, "a")
        box.ledger.run(calls.block("wrong password", asker="a", credentials=CREDENTIALS, refused=True))
        assert tick("") == (False, None)
        wake, wait = tick(CREDENTIALS)
        assert not wake
        assert wait is not None
        assert 0 < wait <= 1
        assert tick("others") == (True, 0)
        let_time_pass(box)
        assert tick(CREDENTIALS) == (True, 0)
        store(box)
        assert tick("") == (True, 0)


class TestStatus:
    def test_of_nothing(self, box: Box) -> None:
        account = box.ledger.run(calls.status())
        assert (account.state, account.reason, account.message, account.until, account.since) == (
            "open", None, None, None, None,
        )  # fmt: skip
        assert account.counts == dict.fromkeys(State, 0)
        assert account.workers == {}
        assert account.next_due is None
        assert account.token == {"present": False, "source": None, "storedAt": None, "expiresAt": None}
        assert abs((account.now - datetime.now(UTC)).total_seconds()) < 5

    def test_of_everything(self, box: Box) -> None:
        for state in [*set(State) - {State.QUEUED}, State.QUEUED]:
            box.in_state(state, f"n-{state}")
        store(box, life=3600)
        box.tick()
        box.settle(report(calls.Claimed("none", "1", ""), Event.DEFER, message="slow down", pause=60))
        account = box.ledger.run(calls.status())
        assert (account.state, account.reason, account.message) == ("paused", "throttled", "slow down")
        assert 59 < (account.until - account.now).total_seconds() <= 60
        assert 0 <= (account.now - account.since).total_seconds() < 5
        assert account.counts == dict.fromkeys(State, 1)
        assert list(account.workers) == ["w1"]
        assert 0 <= account.workers["w1"] < 5
        assert account.next_due is not None
        assert account.next_due <= account.now
        assert (account.token["present"], account.token["source"]) == (True, "login")
        assert 3500 < (account.token["expiresAt"] - account.now).total_seconds() <= 3600

    def test_it_shows_no_token(self, box: Box) -> None:
        store(box, "secret-token")
        assert "secret-token" not in repr(box.ledger.run(calls.status()))

    def test_a_refused_token_is_not_there(self, box: Box) -> None:
        store(box)
        box.settle(report(claimed(box), Event.DEFER), refused="1")
        token = box.ledger.run(calls.status()).token
        assert (token["present"], token["expiresAt"]) == (False, None)

    def test_a_worker_that_stopped_on_purpose_is_not_listed(self, box: Box) -> None:
        box.tick()
        box.ledger.forget_worker("w1")
        assert box.ledger.run(calls.status()).workers == {}
