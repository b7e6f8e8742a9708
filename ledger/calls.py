"""Every call to the ledger: which script, with which arguments, and what its reply means.

A call is a value; `Ledger` and `AsyncLedger` (door.py) carry it out. So producers, which wait, and workers, which
do not, share one reading of every script.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Generic, Literal, TypeVar

from ledger import version
from ledger.scripts import Script, script
from ledger.vault import Vault
from tasks.errors import OutdatedError
from tasks.jobs import (
    Batch,
    Job,
    Receipt,
    Submission,
    moment,
    named,
    nameless,
    sent_body,
    sent_name,
    state_of,
)
from tasks.retry import Outcome
from tasks.states import State

T = TypeVar("T")

BASELINE_SECONDS = 600.0
"""How old the latest listing may be that an attempt's instance is told from others by. What somebody else has launched under
the same exact name since then could be taken for the job's own."""

RELIST_SECONDS = 60.0
"""While jobs with exact names are claimed, the instances are listed again this often, and twenty times as long as a listing
takes; and after one that failed, not before that."""

LOOKUP_REST = 0.3
"""Seconds between two lookups, so that what falls due close together is looked up together."""

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
class Limits:
    """What a batch may do at once: calls in flight, and jobs that fail before the rest is held. 0 is any number; None leaves
    it as it is.
    """

    max_parallel: int | None = None
    stop_after: int | None = None


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
    waits: bool = False
    unique_names: bool = False
    fallback: int = 0
    """Which of its fallbacks the request is, from 1; 0 is none."""

    @property
    def body(self) -> bytes:
        """What is sent."""
        assert self.request is not None, "what cannot be opened is not sent"
        return sent_body(self.request, self.id, unique=self.unique_names).encode()


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
    """What a claim took. `why` (paused, blocked, token, listing, version, rate) says why it could take nothing, or no more.

    `wait`: seconds until there may be something to claim; None is until somebody acts. `lookup`: the instances should be
    listed now. `token_sealed`: there is a token, sealed with a key that this process does not have, so for it there is none.
    """

    why: str
    wake: bool
    wait: float | None
    lookup: bool
    token: HeldToken | None
    jobs: tuple[Claimed, ...]
    token_sealed: bool = False


@dataclass(frozen=True)
class Doubt:
    """A job whose last attempt has an unknown end, and whose lookup is due. `name` is the one that was sent."""

    id: str
    attempt: str
    name: str
    tries: int
    max_attempts: int | None


@dataclass(frozen=True)
class Turn:
    """The turn to list the instances: `mine`, or another's. `doubts` are the jobs to be looked up."""

    mine: bool
    token: HeldToken | None
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True)
class Finding:
    """What a lookup found for one job: the ids of the instances that have its name.

    `delay`: seconds until its next attempt, if there are none and it may try again.
    """

    doubt: Doubt
    instance_ids: Sequence[str]
    delay: float


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
    call showed that it is good. `pause`: seconds for which the account is to rest, and what the API said, beside what the
    reports ask for.
    """

    refused: str = ""
    taken: str = ""
    pause: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Done:
    """What an act did to one job: `cancelled`, `requested`, `ended`, `rearmed`, `refused` or `absent`."""

    state: str
    what: str


@dataclass(frozen=True)
class LaneView:
    """One lane with jobs that are due.

    `width`: calls that may be in flight at once, None is any number. `probe_at`: sold out, and asked again then (UTC); `since`
    when; `message` is the API's last answer. `empty_at`: the catalogue has shown since that there is none, last then.
    """

    name: str
    due: int
    width: int | None
    in_flight: int
    probe_at: Any
    message: str | None
    since: Any
    empty_at: Any = None

    @property
    def state(self) -> str:
        """open, narrow (found to have some capacity, and widening) or soldOut."""
        return "soldOut" if self.probe_at else "open" if self.width is None else "narrow"


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
    lanes: tuple[LaneView, ...] = ()
    version: int = 0
    """The newest version that has used the ledger; 0: none that leaves a mark."""


def newer_ledger(newest: int) -> str:
    """What to say where a newer launchq uses the ledger."""
    mine = version.LEDGER_VERSION
    return f"the ledger is used by a newer launchq (its ledger version is {newest}, here it is {mine}): upgrade this one"


def enqueue(
    submissions: Sequence[Submission],
    *,
    vault: Vault,
    batch: str = "",
    limits: Limits | None = None,
    known: Mapping[str, str] | None = None,
) -> Call[Enqueued]:
    """Enter jobs. `known`: id of a submission -> the job that stands for it and was found to have the same request."""
    limits = limits or Limits()
    templates: dict[tuple[Any, ...], int] = {}
    head: list[str] = []
    jobs: list[str] = []
    for one in submissions:
        body, policy = nameless(one.body, one.name), one.policy
        alike = (
            body, one.lane, bool(policy.wait_for_capacity), policy.unique_names, policy.max_attempts, policy.until,
            tuple((choice.lane, choice.after, nameless(choice.body, one.name)) for choice in one.fallbacks),
        )  # fmt: skip
        if alike not in templates:
            templates[alike] = len(templates) + 1
            head += _template(alike, vault)
        jobs += (
            one.id, one.name, one.key, one.entry, str(templates[alike]), _start(policy.not_before),
            (known or {}).get(one.id, ""),
        )  # fmt: skip
    flags = ("" if one is None else str(one) for one in (limits.max_parallel, limits.stop_after))
    return Call(script("enqueue"), ("enter", batch, *flags, str(len(templates)), *head, *jobs), _enqueued)


def _template(alike: tuple[Any, ...], vault: Vault) -> tuple[str, ...]:
    """What jobs that are entered alike have in common, as the script takes it."""
    body, lane, waits, unique, max_attempts, until, fallbacks = alike
    # Where they may be launched, the request itself first, and the bodies of the others.
    places = [(lane, 0.0), *((other, after) for other, after, _ in fallbacks)] if fallbacks else []
    choices = (
        json.dumps([{"lane": one, "after": round(after * 1000)} for one, after in places]) if places else ""
    )
    bodies = json.dumps([text for _, _, text in fallbacks], ensure_ascii=False) if fallbacks else ""
    limit = "" if max_attempts is None else str(max_attempts)
    patience = "" if until in (None, math.inf) else milliseconds(until)
    plain = (body, lane, _flag(waits), _flag(unique), limit, patience, choices, bodies)
    sealed = (vault.seal(body), *plain[1:7], vault.seal(bodies) if bodies else "")
    return (vault.mark(json.dumps(plain)), *sealed, " ".join(vault.digests(body)))


def check_only(entering: Call[Enqueued]) -> Call[Enqueued]:
    """The same as an `enqueue`, that only looks for conflicts."""
    return replace(entering, args=("check", *entering.args[1:]))


def hold(batch_id: str, what: Literal["person", "go on", "go on after failures"]) -> Call[bool]:
    """Hold a batch, or have it go on. False where there is none."""
    return Call(script("hold"), (batch_id, what), bool)


def pause(who: str) -> Call[bool]:
    """A person pauses the account, or ("") lets it go on. Whether that is news."""
    return Call(script("pause"), (who,), bool)


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
    rate: float = 0.0,
) -> Call[Claim]:
    """Take up to `limit` due jobs; `lease` in seconds.

    `api_key`: fingerprint of the key that the worker uses in place of the shared token; "" is none. `first`: of its
    shift. `watching`: the shift comes back in a moment.
    """
    args = (
        claim_id,
        str(limit),
        milliseconds(lease),
        worker,
        api_key,
        _flag(first),
        milliseconds(PROBE_SECONDS),
        _flag(watching),
        milliseconds(LOGIN_WAIT_CAP),
        milliseconds(BASELINE_SECONDS),
        milliseconds(RELIST_SECONDS),
        milliseconds(RELIST_SECONDS),
        repr(rate),
    )
    return Call(script("claim"), args, lambda reply: _claim(reply, vault))


def settle(
    reports: Sequence[Report], news: AccountNews, *, verify_delays: Sequence[float]
) -> Call[list[str]]:
    """Write down how attempts ended; for each, the job's new state, `stale` or `surplus` (see lua/settle.lua)."""
    pauses = [(news.pause, news.message), *((one.outcome.pause, one.outcome.message) for one in reports)]
    pause, message = max(pauses, key=lambda pair: pair[0])
    blocked = next((report.outcome.message for report in reports if report.outcome.blocks), "")
    args = [
        news.refused, news.taken, milliseconds(pause), message if pause else "", blocked, milliseconds(PROBE_SECONDS),
        _delays(verify_delays),
    ]  # fmt: skip
    for report in reports:
        outcome = report.outcome
        counts = "" if not outcome.counts else "at" if outcome.spends else "a"
        args += (
            report.id, report.attempt, outcome.event, outcome.reason, outcome.category, outcome.message,
            outcome.instance_id, milliseconds(outcome.delay), counts,
        )  # fmt: skip
    return Call(script("settle"), args, list)


def keep_turn(which: Literal["lookup", "login"], asker: str, *, lasts: float) -> Call[bool]:
    """Keep a turn for that many seconds more. False where it is over: then what was done in it is refused."""
    return Call(script("keep"), (which, asker, milliseconds(lasts)), bool)


def lookup_turn(
    asker: str, *, lasts: float, limit: int, verify_delays: Sequence[float], api_key: str, vault: Vault
) -> Call[Turn]:
    """Ask for the turn to list the instances; it lasts that many seconds.

    `api_key`: fingerprint of the key that the asker uses in place of the shared token; "" is none.
    """

    def parse(reply: list[Any]) -> Turn:
        turn, token, jobs = reply
        doubts = tuple(
            Doubt(
                job_id,
                attempt,
                sent_name(name, job_id, unique=bool(unique)),
                int(tries),
                int(limit) if limit else None,
            )
            for job_id, attempt, name, tries, limit, unique in jobs
        )
        return Turn(turn == "go", _token(token, vault), doubts)

    return Call(
        script("lookup"), (asker, milliseconds(lasts), str(limit), _delays(verify_delays), api_key), parse
    )


def listed(asker: str, instance_ids: Iterable[str], *, end: str = "", took: float = 0.0) -> Call[bool]:
    """Note which instances a listing showed; `end`: it was made (`whole`) in `took` seconds, or could not be (`failed`).

    With an end, the turn is over, also where nothing was asked (`given up`). False where it was over already.
    """
    return Call(
        script("listed"), (asker, end, milliseconds(took), milliseconds(LOOKUP_REST), *instance_ids), bool
    )


def verify(
    asker: str,
    findings: Sequence[Finding],
    *,
    verify_delays: Sequence[float],
    max_attempts: int,
    flaw: str = "",
) -> Call[list[str]]:
    """What a lookup says about jobs in doubt; for each, its state or `stale`. `flaw`: why the list could not be read."""
    args = [asker, _delays(verify_delays), str(max_attempts), flaw]
    for one in findings:
        args += (
            one.doubt.id,
            one.doubt.attempt,
            one.doubt.name,
            milliseconds(one.delay),
            str(len(one.instance_ids)),
        )
        args += one.instance_ids
    return Call(script("verify"), args, list)


def resolve(job_id: str, *, instance_id: str, who: str, why: str) -> Call[tuple[str, str]]:
    """A person says what happened to an uncertain job: which instance was created, or ("") that none was.

    What came of it (see lua/resolve.lua) and the job's state, or the job that owns the instance.
    """
    return Call(script("resolve"), (job_id, instance_id, who, why), lambda reply: (reply[0], reply[1]))


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
    open_once = cache(vault.open_or_none)  # many have the same one

    def job(job_id: str, fields: dict[str, str], history: list[str]) -> Job:
        name, choice = fields.get("name", ""), int(fields.get("choice") or 0)
        opened = {"request": _body(open_once(fields.get("request") or "{}"), 0, name) or "null"}
        if choice:
            opened["fallbackRequest"] = _body(open_once(fields["bodies"]), choice, name) or "null"
        return Job.from_redis(job_id, {**fields, **opened}, history)

    def parse(reply: list[tuple[list[str], list[str]]]) -> list[Job | None]:
        return [
            job(job_id, pairs(flat), history) if flat else None
            for job_id, (flat, history) in zip(job_ids, reply, strict=True)
        ]

    return Call(script("read"), job_ids, parse)


@dataclass(frozen=True)
class Listed:
    """Ids of jobs, and where the next page begins; `more` None: there is none."""

    ids: tuple[str, ...]
    more: str | None


def page(
    *, state: State | None, batch: str | None, text: str, after: str, limit: int, look: int = 2000
) -> Call[Listed]:
    """A page of jobs, the latest change first; `after` is where the one before ended ("" is the first).

    Looks at `look` jobs at most, so that it holds up nobody: there may be more although it is not full.
    """
    time, _, last = after.partition("-")

    def parse(reply: list[str]) -> Listed:
        time, last, *ids = reply
        return Listed(tuple(ids), f"{time}-{last}" if time else None)

    args = (str(state or ""), batch or "", text, time, last, str(limit), str(look))
    return Call(script("list"), args, parse)


def tick(
    worker: str, *, credentials: str, has_api_key: bool, verify_delays: Sequence[float]
) -> Call[tuple[bool, float | None]]:
    """One beat of a worker's pulse: whether a wake-up is wanted, and the seconds until there may be something to do.

    OutdatedError where a newer launchq uses the ledger: then the beat did nothing.
    """

    def parse(reply: list[Any]) -> tuple[bool, float | None]:
        if len(reply) > 2:
            raise OutdatedError(newer_ledger(int(reply[2])))
        return bool(int(reply[0])), _seconds(reply[1])

    args = (worker, credentials, _flag(has_api_key), _delays(verify_delays))
    return Call(script("tick"), args, parse)


def tidy(retention: float, *, limit: int) -> Call[int]:
    """Forget up to `limit` jobs that ended more than `retention` seconds ago; how many were forgotten."""
    return Call(script("tidy"), (milliseconds(retention), str(limit)), int)


def login_turn(asker: str, *, lasts: float, held_version: str, credentials: str) -> Call[tuple[str, float]]:
    """Ask for the turn to log in: `go`, `wait` (with seconds) or `fresh`. It lasts that many seconds."""
    args = (asker, milliseconds(lasts), milliseconds(LOGIN_WAIT_CAP), held_version, credentials)
    return Call(script("login"), args, lambda reply: (reply[0], int(reply[1]) / 1000))


def held_token(*, vault: Vault) -> Call[HeldToken | None]:
    """The token that all workers share; None where there is none, it has ended, or cannot be opened."""
    return Call(script("held"), (), lambda reply: _token(reply, vault))


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
    lasts = ("" if life is None else milliseconds(life), "" if expires_at is None else str(expires_at * 1000))
    return Call(script("token"), (vault.seal(token), *lasts, source, adopt, asker, credentials), bool)


def block(
    message: str, *, asker: str = "", credentials: str = "", refused: bool = False, api_key: bool = False
) -> Call[bool]:
    """Show that the account is blocked for want of a token; `refused`: the API has just refused these credentials.

    With `api_key` they are a key, which is tried again later, ever less often.
    """
    longest = milliseconds(LOGIN_WAIT_CAP) if api_key else ""
    return Call(script("block"), (message, asker, credentials, _flag(refused), longest), bool)


def greet(credentials: str) -> Call[bool]:
    """A worker begins, with credentials of this fingerprint."""
    return Call(script("greet"), (credentials,), bool)


def evicting(why: str) -> Call[bool]:
    """Close the account while Redis evicts, in these words; "" opens it. Whether that is news."""
    return Call(script("evicting"), (why,), bool)


def status() -> Call[Account]:
    """The account at a glance."""
    return Call(script("status"), (), _account)


def batch(batch_id: str) -> Call[Batch | None]:
    """One batch, None where there is none."""
    return Call(script("batch"), (batch_id,), lambda reply: _batch(batch_id, pairs(reply)) if reply else None)


def batches(*, after: str, limit: int) -> Call[tuple[tuple[Batch, ...], str | None]]:
    """A page of batches, the newest first, and where the next begins (None: there is none); `after` is that of the one before."""
    time, _, last = after.partition("-")

    def parse(reply: list[Any]) -> tuple[tuple[Batch, ...], str | None]:
        time, last, *found = reply
        made = tuple(_batch(batch_id, pairs(flat)) for batch_id, flat in found if flat)
        return made, f"{time}-{last}" if time else None

    return Call(script("batches"), (time, last, str(limit)), parse)


def _batch(batch_id: str, fields: dict[str, str]) -> Batch:
    counts = {state: int(fields.get(state, 0)) for state in State}
    created = moment(fields["createdAt"])
    assert created is not None
    return Batch(
        batch_id,
        int(fields["total"]),
        counts,
        created,
        held=fields.get("held"),
        max_parallel=int(fields["maxParallel"]) if "maxParallel" in fields else None,
        stop_after=int(fields["stopAfter"]) if "stopAfter" in fields else None,
    )


def _enqueued(reply: list[Any]) -> Enqueued:
    if reply[0] == "conflict":
        return Enqueued(conflicts=tuple((job_id, int(index)) for job_id, index in reply[1]))
    receipts = tuple(
        Receipt(job_id, name, state_of(job_id, state), bool(old)) for job_id, name, state, old in reply[1]
    )
    return Enqueued(wake=reply[0] == "1", receipts=receipts)


def _claim(reply: list[Any], vault: Vault) -> Claim:
    why, wake, wait, lookup, token, bodies, jobs = reply
    opened = [vault.open_or_none(body) for body in bodies]
    return Claim(
        why,
        wake == "1",
        _seconds(wait),
        bool(lookup),
        _token(token, vault),
        tuple(
            Claimed(
                job_id,
                attempt,
                _body(opened[int(place) - 1], int(choice or 0), name),
                int(tries),
                int(limit) if limit else None,
                bool(waits),
                bool(unique),
                int(choice or 0),
            )
            for job_id, attempt, place, tries, limit, waits, unique, choice, name in jobs
        ),
        token_sealed=vault.open_or_none(token[0]) is None,
    )


def _body(opened: str | None, choice: int, name: str) -> str | None:
    """What is to be sent: the request, or that fallback's body out of the list; None where it cannot be opened, or is gone."""
    if not opened:
        return None
    return named(str(json.loads(opened)[choice - 1]) if choice else opened, name)


def _token(reply: list[str], vault: Vault) -> HeldToken | None:
    """None also where the token cannot be opened: whoever has not the key has no token."""
    sealed, version, left, life = reply
    value = vault.open_or_none(sealed)
    return HeldToken(value, version, _seconds(left), _seconds(life)) if value else None


def _account(reply: list[Any]) -> Account:
    now, account, token, counts, workers, first, lanes = reply
    fields, numbers, heard = pairs(account), pairs(counts), pairs(workers)
    source, stored, expires, present = token
    if by := fields.get("pausedBy"):
        fields |= {
            "state": "paused",
            "reason": "person",
            "message": f"paused by {by}",
            "since": fields["pausedAt"],
        }
        fields.pop("until", None)
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
        lanes=tuple(
            LaneView(
                name,
                int(due),
                int(width) if width else None,
                int(flying),
                moment(probe),
                why or None,
                moment(since),
                moment(empty),
            )
            for name, due, width, flying, probe, why, since, empty in lanes
        ),
        version=int(fields.get("version", 0)),
    )


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """A hash, which a script hands over as a flat list."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _start(start: datetime | timedelta | str | None) -> str:
    assert not isinstance(start, str), "a time as a file gives it is read before its job is entered"
    if isinstance(start, timedelta):
        return f"+{milliseconds(start.total_seconds())}"
    return "" if start is None else milliseconds(start.timestamp())


def _flag(value: bool) -> str:
    return "1" if value else ""


def _delays(seconds: Sequence[float]) -> str:
    return ",".join(milliseconds(one) for one in seconds)


def milliseconds(seconds: float) -> str:
    """A length of time as scripts take it."""
    return str(round(seconds * 1000))


def _seconds(milliseconds: str) -> float | None:
    return int(milliseconds) / 1000 if milliseconds != "" else None
