"""Every call to the ledger: which script, with which arguments, and what its reply means.

A call is a value; `Ledger` and `AsyncLedger` (door.py) carry it out. So producers, which wait, and workers, which
do not, share one reading of every script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from ledger.scripts import Script, script
from ledger.vault import Vault
from tasks.jobs import Batch, Job, Receipt, Submission, moment
from tasks.retry import Outcome
from tasks.states import State

T = TypeVar("T")

PROBE_SECONDS = 60.0
"""While the account cannot pay, one job this often finds out whether it can again."""

LOGIN_WAIT_CAP = 300.0
"""The longest wait between two logins that bring nothing, in seconds."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One script call. `parse` reads the reply; the arguments stay out of `repr`, since they may be secret."""

    script: Script
    args: Sequence[str] = field(repr=False)
    parse: Callable[[Any], T] = field(repr=False)


@dataclass(frozen=True)
class Enqueued:
    """`wake`: a wake-up should be sent. Conflicts are (id of the job that exists, index of the submission)."""

    wake: bool = False
    receipts: tuple[Receipt, ...] = ()
    conflicts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Claimed:
    """One job, taken for one attempt. `max_attempts` None is the worker's own setting.

    `request` None: it is sealed, and no key of this process fits.
    """

    id: str
    attempt: str
    request: str | None = field(repr=False)
    tries: int = 0
    max_attempts: int | None = None
    spot: bool = False


@dataclass(frozen=True)
class HeldToken:
    """The token that all workers share.

    `left` is for how many seconds it is still good, `life` for how many it was when it came; None is unknown.
    """

    value: str = field(repr=False)
    version: str
    left: float | None
    life: float | None


@dataclass(frozen=True)
class Claim:
    """What a claim took. `why` (paused, blocked, token) says why it could take nothing at all.

    `wait`: seconds until there may be something to claim; None is until somebody acts. `token_sealed`: there is a token,
    sealed with a key that this process does not have, so for it there is none.
    """

    why: str
    wake: bool
    wait: float | None
    token: HeldToken | None
    jobs: tuple[Claimed, ...]
    token_sealed: bool = False


@dataclass(frozen=True)
class Report:
    """How one attempt ended, for the ledger."""

    id: str
    attempt: str
    outcome: Outcome


@dataclass(frozen=True)
class AccountNews:
    """What a group of reports says about the account and its token.

    `refused`: version of a token that the API refused. `taken`: "token", or the fingerprint of an API key, where a
    call showed that it is good.
    """

    refused: str = ""
    taken: str = ""


@dataclass(frozen=True)
class Done:
    """What an act did to one job: `cancelled`, `requested`, `ended`, `rearmed`, `refused` or `absent`."""

    state: str
    what: str


@dataclass(frozen=True)
class Account:
    """The account at a glance. `state` is open, paused or blocked; times are aware, in UTC."""

    state: str
    reason: str | None
    message: str | None
    until: Any
    since: Any
    token: dict[str, Any]
    counts: dict[State, int]
    workers: dict[str, float]
    """Worker -> seconds since it was last heard."""
    next_due: Any
    now: Any


def enqueue(submissions: Sequence[Submission], *, vault: Vault, batch: str = "") -> Call[Enqueued]:
    """Enter jobs."""
    args = ["enter", batch]
    for one in submissions:
        limit = "" if one.max_attempts is None else str(one.max_attempts)
        args += (
            one.id, one.name, vault.seal(one.body), one.key, one.entry, limit, "1" if one.spot else "",
            " ".join(vault.digests(one.body)),
        )  # fmt: skip
    return Call(script("enqueue"), args, _enqueued)


def check_only(entering: Call[Enqueued]) -> Call[Enqueued]:
    """The same as an `enqueue`, that only looks for conflicts."""
    return replace(entering, args=("check", *entering.args[1:]))


def refuse(job_id: str, *, name: str, message: str) -> Call[bool]:
    """Record a job that cannot be launched. False where the job exists."""
    return Call(script("refuse"), (job_id, name, message), bool)


def claim(
    claim_id: str,
    *,
    limit: int,
    lease: float,
    worker: str,
    api_key: str,
    first: bool,
    watching: bool,
    vault: Vault,
) -> Call[Claim]:
    """Take up to `limit` due jobs; `lease` in seconds.

    `api_key`: fingerprint of the key that the worker uses in place of the shared token; "" is none. `first`: of its
    shift. `watching`: the shift comes back in a moment.
    """
    args = (
        claim_id,
        str(limit),
        _ms(lease),
        worker,
        api_key,
        "1" if first else "",
        _ms(PROBE_SECONDS),
        "1" if watching else "",
        _ms(LOGIN_WAIT_CAP),
    )
    return Call(script("claim"), args, lambda reply: _claim(reply, vault))


def settle(reports: Sequence[Report], news: AccountNews) -> Call[list[str]]:
    """Write down how attempts ended; for each, the job's new state or `stale`."""
    paused = max(reports, key=lambda report: report.outcome.pause)
    blocked = next((report.outcome.message for report in reports if report.outcome.blocks), "")
    pause = paused.outcome.pause
    args = [
        news.refused, news.taken, _ms(pause), paused.outcome.message if pause else "", blocked, _ms(PROBE_SECONDS),
    ]  # fmt: skip
    for report in reports:
        outcome = report.outcome
        counts = "" if not outcome.counts else "at" if outcome.spends else "a"
        args += (
            report.id, report.attempt, outcome.event, outcome.reason, outcome.category, outcome.message,
            outcome.instance_id, _ms(outcome.delay), counts,
        )  # fmt: skip
    return Call(script("settle"), args, list)


def cancel(job_ids: Iterable[str]) -> Call[list[Done]]:
    """Take jobs back."""
    return Call(script("cancel"), tuple(job_ids), lambda reply: [Done(*pair) for pair in reply])


def rearm(act_id: str, job_ids: Iterable[str]) -> Call[tuple[bool, list[Done]]]:
    """Make jobs due again that ended without an instance. The first of the pair: a wake-up should be sent."""
    return Call(
        script("rearm"),
        (act_id, *job_ids),
        lambda reply: (bool(int(reply[0])), [Done(*pair) for pair in reply[1]]),
    )


def read(job_ids: Sequence[str], *, vault: Vault) -> Call[list[Job | None]]:
    """The jobs with these ids, None for each that does not exist. One whose request cannot be opened has none."""

    def job(job_id: str, fields: dict[str, str]) -> Job:
        request = vault.open_or_none(fields.get("request") or "{}")
        return Job.from_fields(job_id, {**fields, "request": "null" if request is None else request})

    def parse(reply: list[list[str]]) -> list[Job | None]:
        return [
            job(job_id, _pairs(flat)) if flat else None for job_id, flat in zip(job_ids, reply, strict=True)
        ]

    return Call(script("read"), job_ids, parse)


def tick(worker: str, *, credentials: str, has_api_key: bool) -> Call[tuple[bool, float | None]]:
    """One beat of a worker's pulse: whether a wake-up is wanted, and the seconds until there may be something to do."""
    args = (worker, credentials, "1" if has_api_key else "")
    return Call(script("tick"), args, lambda reply: (bool(int(reply[0])), _seconds(reply[1])))


def tidy(retention: float, *, limit: int = 1000) -> Call[int]:
    """Forget up to `limit` jobs that ended more than `retention` seconds ago; how many were forgotten."""
    return Call(script("tidy"), (_ms(retention), str(limit)), int)


def login_turn(asker: str, *, lock: float, held_version: str, credentials: str) -> Call[tuple[str, float]]:
    """Ask for the turn to log in: `go`, `wait` (with seconds) or `fresh`; `lock` in seconds."""
    args = (asker, _ms(lock), _ms(LOGIN_WAIT_CAP), held_version, credentials)
    return Call(script("login"), args, lambda reply: (reply[0], int(reply[1]) / 1000))


def store_token(
    token: str,
    *,
    source: str,
    vault: Vault,
    life: float | None = None,
    expires_at: int | None = None,
    adopt: str = "",
    asker: str = "",
    credentials: str = "",
) -> Call[bool]:
    """Keep a token for all workers: good for `life` seconds, or until `expires_at` (seconds since 1970).

    `adopt` is a configured token's fingerprint: it is kept once, False tells that it had been before.
    `credentials` is the fingerprint of those that made it.
    """
    lasts = ("" if life is None else _ms(life), "" if expires_at is None else str(expires_at * 1000))
    return Call(script("token"), (vault.seal(token), *lasts, source, adopt, asker, credentials), bool)


def block(
    message: str, *, asker: str = "", credentials: str = "", refused: bool = False, api_key: bool = False
) -> Call[bool]:
    """Show that the account is blocked for want of a token; `refused`: the API has just refused these credentials.

    With `api_key` they are a key, which is tried again later, ever less often.
    """
    longest = _ms(LOGIN_WAIT_CAP) if api_key else ""
    return Call(script("block"), (message, asker, credentials, "1" if refused else "", longest), bool)


def greet(credentials: str) -> Call[bool]:
    """A worker begins, with credentials of this fingerprint."""
    return Call(script("greet"), (credentials,), bool)


def status() -> Call[Account]:
    """The account at a glance."""
    return Call(script("status"), (), _account)


def batch(batch_id: str) -> Call[Batch | None]:
    """One batch, None where there is none."""
    return Call(
        script("batch"), (batch_id,), lambda reply: _batch(batch_id, _pairs(reply)) if reply else None
    )


def _batch(batch_id: str, fields: dict[str, str]) -> Batch:
    counts = {state: int(fields.get(state, 0)) for state in State}
    created = moment(fields["createdAt"])
    assert created is not None
    return Batch(batch_id, int(fields["total"]), counts, created)


def _enqueued(reply: list[Any]) -> Enqueued:
    if reply[0] == "conflict":
        return Enqueued(conflicts=tuple((job_id, int(index)) for job_id, index in reply[1]))
    receipts = tuple(Receipt(job_id, name, State(state), bool(old)) for job_id, name, state, old in reply[1])
    return Enqueued(wake=reply[0] == "1", receipts=receipts)


def _claim(reply: list[Any], vault: Vault) -> Claim:
    why, wake, wait, (value, version, left, life), jobs = reply
    token = vault.open_or_none(value)
    return Claim(
        why,
        wake == "1",
        _seconds(wait),
        HeldToken(token, version, _seconds(left), _seconds(life)) if token else None,
        tuple(
            Claimed(
                job_id,
                attempt,
                vault.open_or_none(request),
                int(tries),
                int(limit) if limit else None,
                bool(spot),
            )
            for job_id, attempt, request, tries, limit, spot in jobs
        ),
        token_sealed=token is None,
    )


def _account(reply: list[Any]) -> Account:
    now, account, token, counts, workers, first = reply
    fields, numbers, heard = _pairs(account), _pairs(counts), _pairs(workers)
    source, stored, expires, present = token
    return Account(
        state=fields.get("state", "open"),
        reason=fields.get("reason"),
        message=fields.get("message"),
        until=moment(fields.get("until")),
        since=moment(fields.get("since")),
        token={
            "present": bool(present),
            "source": source or None,
            "storedAt": moment(stored),
            "expiresAt": moment(expires),
        },
        counts={state: int(numbers.get(state, 0)) for state in State},
        workers={worker: max(0.0, (int(now) - float(seen)) / 1000) for worker, seen in heard.items()},
        next_due=moment(first),
        now=moment(now),
    )


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))


def _seconds(milliseconds: str) -> float | None:
    return int(milliseconds) / 1000 if milliseconds != "" else None
