"""The one door to the ledger: `Ledger` for those who wait (producers, pollers), `AsyncLedger` for a shift.

Both carry out the calls of calls.py and turn every trouble with Redis into LedgerError. Sockets have timeouts and
keepalive, and redis-py repeats a command whose connection broke: every script is safe to repeat.
"""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self, TypeVar, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, RedisError, WatchError
from redis.retry import Retry

from ledger import calls
from ledger.calls import Call, Enqueued, Limits, Listed
from ledger.durability import Durability
from ledger.keys import Keys
from ledger.passes import PASS_MARK, SESSION_SECONDS, Pass, digest_of, matching, new_secret
from ledger.vault import PLAIN, SEALED, Vault
from tasks.bodies import request_differences
from tasks.errors import LedgerError, NotFoundError, RefusedError
from tasks.jobs import Batch, Job, Submission
from tasks.states import State

T = TypeVar("T")

SOCKET_TIMEOUT = 5.0
"""Seconds after which a silent Redis counts as out of reach."""

CONNECTIONS = 100_000
"""No limit of ours: a thread that waits for its jobs holds a connection, and any number may wait. Redis has `maxclients`."""

ENTER_AT_ONCE = 1000
"""How many jobs one script call enters."""

DURABILITY_SECONDS = 60.0
"""How long it is believed how this Redis writes to its disk."""

DISK_PATIENCE = 2.0
"""Seconds that a claim may take to reach Redis' disk."""

SEEN_SECONDS = 30 * 86400.0
"""How long an instance is remembered that the list no longer shows."""

TRACE_SECONDS = 7 * 86400
"""How long it is remembered which trace a job belongs to."""

READ_AT_ONCE = 500
"""How many jobs one script call reads, so that no call holds up Redis for long."""


NO_EVICTION = "noeviction"
EVICTS = (
    "Redis' maxmemory-policy is {policy}: when it is full, it throws away jobs, and what is forgotten may be bought again; "
    "set maxmemory-policy to noeviction"
)


def connection_options() -> dict[str, Any]:
    """How every connection to the ledger's Redis is made, asynchronous or not."""
    return {
        "decode_responses": True,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "retry_on_error": [redis.exceptions.BusyLoadingError],
    }


_FULL = {
    "MISCONF": "Redis cannot write to its disk and takes no change until it can, so nothing was written down",
    "command not allowed when used memory": "Redis' memory is full and it takes no change until it is not, so nothing was written down",
}
"""Mark in an error of Redis -> what it means. Redis refuses all of a script, never a part."""
SAMPLE = 100
"""Jobs of either kind at which `at_rest` looks."""


LOOKS = 50
"""How often one page has the ledger look at some more jobs, before it is given back as it is."""


@dataclass(frozen=True)
class Page:
    """Some jobs, and where the next page begins; `more` None: there is none."""

    jobs: tuple[Job, ...]
    more: str | None


@dataclass(frozen=True)
class AtRest:
    """Secrets looked at in Redis: in the clear; sealed and opened; sealed with a key that is not here."""

    plain: int
    opened: int
    locked: int


class Place(Protocol):
    """Where a ledger is, and what secrets are sealed with in it: what the settings of `config/` say."""

    @property
    def redis_url(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def secret_keys(self) -> tuple[str, ...]: ...


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        plain = next((text for mark, text in _FULL.items() if mark in str(error)), "")
        raise LedgerError(f"{plain}: {error}" if plain else f"Redis: {error}") from error


class Ledger:
    """The ledger, for callers that wait. Safe to share between threads. `vault` seals what is secret in it."""

    def __init__(self, url: str, prefix: str = "launchq", vault: Vault = PLAIN) -> None:
        self.keys = Keys(prefix)
        self.vault = vault
        self.redis: redis.Redis = redis.Redis.from_url(
            url,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), 3),
            max_connections=CONNECTIONS,
            **connection_options(),
        )

    @classmethod
    def of(cls, place: Place) -> Self:
        """The ledger that these settings name."""
        return cls(place.redis_url, place.prefix, Vault(place.secret_keys))

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()

    def run(self, call: Call[T]) -> T:
        """Carry out one call."""
        with _translated():
            return call.parse(self._run(call))

    def _run(self, call: Call[T]) -> Any:
        arguments = (self.keys.account, self.keys.base, *call.args)
        try:
            return self.redis.evalsha(call.script.sha, 1, *arguments)
        except NoScriptError:
            return self.redis.eval(call.script.text, 1, *arguments)

    def enqueue(
        self, submissions: Sequence[Submission], *, batch: str = "", limits: Limits | None = None
    ) -> Enqueued:
        """Enter jobs: all of them, or none.

        A key or an entry that stands for a job already gives that job back, marked as a duplicate; where that job's
        request is another one, RefusedError says what differs and nothing is entered. `limits` are the batch's from then on.
        """
        _refuse_contradictions(submissions)
        groups = [submissions[at : at + ENTER_AT_ONCE] for at in range(0, len(submissions), ENTER_AT_ONCE)]
        if len(groups) == 1:
            known: dict[str, str] = {}
            while True:
                call = calls.enqueue(submissions, batch=batch, limits=limits, vault=self.vault, known=known)
                parts = [self.run(call)]
                if not parts[0].conflicts:
                    break
                known |= self._same_after_all(submissions, parts[0])
        else:
            parts = self._enter_as_one(groups, batch, limits)
        return Enqueued(
            any(part.wake for part in parts), tuple(receipt for part in parts for receipt in part.receipts)
        )

    def _enter_as_one(
        self, groups: Sequence[Sequence[Submission]], batch: str, limits: Limits | None
    ) -> list[Enqueued]:
        """Enter groups in one transaction, which holds only while nothing came up that one could conflict with."""
        marks = [self.keys.key(one.key) for group in groups for one in group if one.key]
        known: dict[str, str] = {}
        with _translated(), cast("Any", self.redis).pipeline(transaction=True) as pipeline:
            while groups:
                many = [
                    calls.enqueue(group, batch=batch, limits=limits, vault=self.vault, known=known)
                    for group in groups
                ]
                pipeline.watch(self.keys.entries(batch), *marks)
                found: dict[str, str] = {}
                # In a batch that is new, and without keys, there is nothing to conflict with.
                if marks or pipeline.exists(self.keys.entries(batch)):
                    for group, call in zip(groups, many, strict=True):
                        found |= self._same_after_all(group, self.run(calls.check_only(call)))
                known |= found
                if found:
                    continue
                pipeline.multi()
                for call in many:
                    pipeline.eval(call.script.text, 1, self.keys.account, self.keys.base, *call.args)
                with suppress(WatchError):
                    return [call.parse(reply) for call, reply in zip(many, pipeline.execute(), strict=True)]
        return []

    def _same_after_all(self, group: Sequence[Submission], part: Enqueued) -> dict[str, str]:
        """Of what the script took for conflicts, the submissions whose job has the same request all the same: it was entered by an
        older launchq, which kept requests in another form. RefusedError where one has another request.
        """
        lines = []
        same = {}
        for job_id, index in part.conflicts:
            submission = group[index]
            old = self.job(job_id).request
            if old == json.loads(submission.body):
                same[submission.id] = job_id
                continue
            differing = request_differences(old, json.loads(submission.body)) if old is not None else ()
            shown = ", ".join(differing) or "not to be seen without the key that it is sealed with"
            what = f"entry {submission.entry!r}" if submission.entry else f"key {submission.key!r}"
            lines.append(
                f"{what}: job {job_id} stands for it with another request (differing: {shown}); "
                "change it back, or give the new request a key or a batch of its own"
            )
        if lines:
            raise RefusedError("\n".join(lines))
        return same

    def jobs(self, job_ids: Sequence[str]) -> list[Job | None]:
        """The jobs with these ids, None for each that does not exist."""
        groups = (job_ids[at : at + READ_AT_ONCE] for at in range(0, len(job_ids), READ_AT_ONCE))
        return [job for group in groups for job in self.run(calls.read(group, vault=self.vault))]

    def job(self, job_id: str) -> Job:
        """One job; NotFoundError where there is none."""
        [job] = self.jobs([job_id])
        if job is None:
            raise NotFoundError(f"no job has the id {job_id}")
        return job

    def batch(self, batch_id: str) -> Batch:
        """One batch; NotFoundError where there is none."""
        batch = self.run(calls.batch(batch_id))
        if batch is None:
            raise NotFoundError(f"no batch has the id {batch_id}")
        return batch

    def batch_job_ids(self, batch_id: str) -> list[str]:
        """The ids of a batch's jobs; empty where there is no such batch."""
        with _translated():
            return cast("list[str]", self.redis.hvals(self.keys.entries(batch_id)))

    def list_jobs(
        self, *, state: State | None = None, batch: str | None = None, limit: int = 100
    ) -> list[Job]:
        """The jobs, the latest change first; `limit` 0 is all."""
        # A job that moves on meanwhile may be found twice.
        found: dict[str, Job] = {}
        after: str | None = ""
        while after is not None and (not limit or len(found) < limit):
            page = self.page(state=state, batch=batch, after=after, limit=limit or READ_AT_ONCE)
            found.update((job.id, job) for job in page.jobs if state in (None, job.state))
            after = page.more
        return list(found.values())[:limit] if limit else list(found.values())

    def page(
        self,
        *,
        state: State | None = None,
        batch: str | None = None,
        text: str = "",
        after: str = "",
        limit: int = 100,
    ) -> Page:
        """A page of jobs, the latest change first: in this state, of this batch, with this text in the name (in any case).

        `after` is the `more` of the page before. It may be shorter than `limit` (at most 500), even empty, and not the last.
        """
        jobs: list[Job] = []
        listed = Listed((), after)
        for _ in range(LOOKS):
            call = calls.page(
                state=state, batch=batch, text=text, after=listed.more or "", limit=limit - len(jobs)
            )
            listed = self.run(call)
            jobs += [job for job in self.jobs(listed.ids) if job is not None]
            if listed.more is None or len(jobs) >= limit:
                break
        return Page(tuple(jobs), listed.more)

    def moves(self) -> dict[tuple[str, str], int]:
        """What happened to jobs, and of what category ("" is none) -> how often, ever."""
        with _translated():
            kept = cast("dict[str, str]", self.redis.hgetall(self.keys.moves))
        counted = {}
        for what, times in kept.items():
            event, _, category = what.partition(":")
            counted[event, category] = int(times)
        return counted

    def measures(self) -> dict[str, str]:
        """What workers have measured; see measures.py."""
        with _translated():
            return cast("dict[str, str]", self.redis.hgetall(self.keys.measures))

    def note_traces(self, job_ids: Sequence[str], place: str) -> None:
        """Note where the submission of these jobs stands in its trace. Before they are entered: a worker may be quick."""
        with _translated(), cast("Any", self.redis).pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.set(self.keys.trace(job_id), place, ex=TRACE_SECONDS)
            pipeline.execute()

    def last_event(self) -> str:
        """The id of the newest event, `0-0` where there is none."""
        newest = self.latest_events(1)
        return newest[0][0] if newest else "0-0"

    def latest_events(self, count: int) -> list[tuple[str, dict[str, str]]]:
        """The latest events, the oldest of them first."""
        with _translated():
            newest = cast(
                "list[tuple[str, dict[str, str]]]", self.redis.xrevrange(self.keys.events, count=count)
            )
        return newest[::-1]

    def events(
        self, after: str, *, block: float | None = None, count: int = 1000
    ) -> list[tuple[str, dict[str, str]]]:
        """The events after this one; with `block`, waits that many seconds (at most 4) for the first."""
        with _translated():
            return _events(self.redis.xread({self.keys.events: after}, count=count, block=_block(block)))

    def time(self) -> float:
        """Redis' time, in seconds since 1970: the one clock that all workers share."""
        with _translated():
            seconds, microseconds = self.redis.time()
        return seconds + microseconds / 1e6

    def evicts(self) -> str:
        """Why this Redis must not keep a ledger, "" where nothing is known against it.

        Any `maxmemory-policy` but `noeviction`. Those that touch only keys with an expiry would spare the jobs, but not
        what a claim took; and which of them is set is one word in a file of somebody else's. INFO tells it where CONFIG is refused.
        """
        with _translated():
            policy = self.redis.info("memory").get("maxmemory_policy", NO_EVICTION)
        return "" if policy == NO_EVICTION else EVICTS.format(policy=policy)

    def forget_worker(self, worker: str) -> None:
        """A worker that stopped on purpose is not one that is missed."""
        with _translated():
            self.redis.zrem(self.keys.workers, worker)

    def add_pass(self, name: str, *, full: bool) -> str:
        """A new token of the board, which is told this once. RefusedError where there is one of this name."""
        token = new_secret(PASS_MARK)
        made = Pass(name, full, datetime.fromtimestamp(self.time(), UTC), digest_of(token))
        with _translated():
            new = self.redis.hsetnx(self.keys.passes, name, made.kept())
        if not new:
            raise RefusedError(f"there is a token of the name {name!r}: remove it, or choose another name")
        return token

    def passes(self) -> list[Pass]:
        """The board's tokens, by name."""
        with _translated():
            kept = cast("dict[str, str]", self.redis.hgetall(self.keys.passes))
        return [Pass.of(name, text) for name, text in sorted(kept.items())]

    def remove_pass(self, name: str) -> None:
        """Take a token back, and all sessions that began with it. NotFoundError where there is none of this name."""
        with _translated():
            gone = self.redis.hdel(self.keys.passes, name)
        if not gone:
            raise NotFoundError(f"there is no token of the name {name!r}")

    def at_rest(self) -> AtRest:
        """How the token and a sample of the jobs (the next due, the last ended) are kept."""
        with _translated():
            look = self.redis.pipeline(transaction=False)
            look.zrange(self.keys.base + "due", 0, SAMPLE - 1)
            look.zrevrange(self.keys.base + "ended", 0, SAMPLE - 1)
            look.zrange(self.keys.lanes, 0, SAMPLE - 1)
            due, ended, lanes = look.execute()
            for lane in lanes:
                look.zrange(self.keys.ready(lane), 0, max(1, SAMPLE // len(lanes)) - 1)
            ids = [*due, *ended, *(job_id for queue in look.execute() for job_id in queue)]
            look.hget(self.keys.token, "value")
            for job_id in ids:
                look.hmget(self.keys.job(job_id), "request", "template")
            token, *found = look.execute()
            for template in {template for _, template in found if template}:
                look.hget(self.keys.base + "template:" + template, "request")
            # A job that could not be launched, or has gone in between, holds nothing.
            held = [token, *(own for own, _ in found), *look.execute()]
            texts = [text for text in held if text and text != "{}"]
        sealed = [text for text in texts if text.startswith(SEALED)]
        locked = sum(self.vault.open_or_none(text) is None for text in sealed)
        return AtRest(plain=len(texts) - len(sealed), opened=len(sealed) - locked, locked=locked)

    def server(self) -> dict[str, Any]:
        """What Redis says of itself, with `appendfsync` where it lets that be read."""
        with _translated():
            began = time.monotonic()
            self.redis.ping()
            latency = time.monotonic() - began
            information = self.redis.info()
            configuration: dict[str, str] = {}
            with suppress(
                RedisError
            ):  # hosted servers often refuse CONFIG; the caller says that it does not know
                configuration = cast("dict[str, str]", self.redis.config_get("appendfsync"))
        return {**information, **configuration, "latency": latency}


def _block(seconds: float | None) -> int | None:
    """How long a read of the stream may wait (ms). Shorter than the socket's timeout: a quiet stream must not look like a
    dead Redis."""
    return None if seconds is None else max(1, round(min(seconds, SOCKET_TIMEOUT - 1) * 1000))


def _events(reply: Any) -> list[tuple[str, dict[str, str]]]:
    """What XREAD says of one stream."""
    if not reply:
        return []
    streams = reply.items() if isinstance(reply, dict) else reply
    [(_, entries)] = streams
    # RESP3 wraps the entries of a stream in one more list.
    return entries[0] if entries and isinstance(entries[0], list) else entries


def _refuse_contradictions(submissions: Sequence[Submission]) -> None:
    """One key or entry with two requests: the ledger would take the second for the first."""
    bodies: dict[str, str] = {}
    for one in submissions:
        for what in (one.key and f"key {one.key!r}", one.entry and f"entry {one.entry!r}"):
            if what and bodies.setdefault(what, one.body) != one.body:
                raise RefusedError(f"{what} stands for two different requests; give each one of its own")


class AsyncLedger:
    """The ledger, for one event loop."""

    def __init__(self, url: str, prefix: str = "launchq", vault: Vault = PLAIN) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry as AsyncRetry

        self.keys = Keys(prefix)
        self._url = url
        self.vault = vault
        self.redis = Redis.from_url(
            url,
            retry=AsyncRetry(ExponentialBackoff(cap=1.0, base=0.05), 3),
            max_connections=CONNECTIONS,
            **connection_options(),
        )

    @classmethod
    def of(cls, place: Place) -> Self:
        """The ledger that these settings name."""
        return cls(place.redis_url, place.prefix, Vault(place.secret_keys))

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()

    async def run(self, call: Call[T]) -> T:
        """Carry out one call."""
        with _translated():
            arguments = (self.keys.account, self.keys.base, *call.args)
            try:
                reply = await self.redis.evalsha(call.script.sha, 1, *arguments)
            except NoScriptError:
                reply = await self.redis.eval(call.script.text, 1, *arguments)
            return call.parse(reply)

    async def add_measures(self, counts: Mapping[str, int]) -> None:
        """Add what was measured (`Tally.take`) to what all workers have."""
        with _translated():
            pipeline = self.redis.pipeline(transaction=False)
            for field, by in counts.items():
                pipeline.hincrby(self.keys.measures, field, by)
            await pipeline.execute()

    async def traces(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Where the submissions of these jobs stand in their traces; only of those that are traced."""
        with _translated():
            places: Any = await self.redis.mget([self.keys.trace(job_id) for job_id in job_ids])
        return {job_id: place for job_id, place in zip(job_ids, places, strict=True) if place}

    async def last_event(self) -> str:
        """The id of the newest event, `0-0` where there is none."""
        with _translated():
            newest: Any = await self.redis.xrevrange(self.keys.events, count=1)
        return str(newest[0][0]) if newest else "0-0"

    async def events(
        self, after: str, *, block: float | None = None, count: int = 1000
    ) -> list[tuple[str, dict[str, str]]]:
        """As `Ledger.events`."""
        with _translated():
            reply = await self.redis.xread({self.keys.events: after}, count=count, block=_block(block))
            return _events(reply)

    async def pass_of(self, token: str) -> Pass | None:
        """The pass that this token is, None where it is none."""
        with _translated():
            kept: Any = await self.redis.hgetall(self.keys.passes)
        return matching(kept, digest_of(token))

    async def begin_session(self, one: Pass) -> str:
        """A new session with this pass: its id, for a cookie."""
        session = new_secret()
        with _translated():
            await self.redis.set(self.keys.session(digest_of(session)), one.digest, ex=SESSION_SECONDS)
        return session

    async def pass_of_session(self, session: str) -> Pass | None:
        """The pass of a session; None where it is over, or its token has been removed."""
        with _translated():
            pipeline = self.redis.pipeline(transaction=False)
            pipeline.get(self.keys.session(digest_of(session)))
            pipeline.hgetall(self.keys.passes)
            digest, kept = await pipeline.execute()
        return matching(kept, digest) if digest else None

    async def end_session(self, session: str) -> None:
        """Log a browser out."""
        with _translated():
            await self.redis.delete(self.keys.session(digest_of(session)))

    async def durability(self) -> Durability:
        """How this Redis writes to its disk. Looked up once a minute in each process."""
        known = _DURABILITY.get(self._url)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        with _translated():
            information = await self.redis.info()
            fsync = None
            with suppress(RedisError):  # hosted servers often refuse CONFIG
                fsync = (await self.redis.config_get("appendfsync")).get("appendfsync")
        durability = Durability.of(information, fsync)
        _DURABILITY[self._url] = durability, time.monotonic() + DURABILITY_SECONDS
        return durability

    async def on_disk(self, claim_id: str, lease: float) -> bool:
        """Wait until what this claim took is on Redis' disk. False where it is not, or not in time.

        Any later write of this Redis that is on the disk says so of all before it; that it finds the claim says that it
        is the same Redis still, not one that was started again and has forgotten it.
        """
        with _translated():
            pipeline = self.redis.pipeline(transaction=False)
            pipeline.pexpire(self.keys.claim(claim_id), round(lease * 1000))
            pipeline.execute_command("WAITAOF", 1, 0, round(DISK_PATIENCE * 1000))
            found, (here, _) = await pipeline.execute()
        return bool(found) and int(here) >= 1

    async def forget_unseen(self, shown: Container[str]) -> None:
        """Forget instances that were first seen long ago and that a whole listing, `shown`, no longer has."""
        with _translated():
            seconds, _ = await self.redis.time()
            old: Any = await self.redis.zrange(
                self.keys.seen,
                "-inf",
                round((seconds - SEEN_SECONDS) * 1000),
                byscore=True,
                offset=0,
                num=10_000,
            )
            gone = [instance for instance in old if instance not in shown]
            if gone:
                await self.redis.zrem(self.keys.seen, *gone)


_DURABILITY: dict[str, tuple[Durability, float]] = {}
"""By Redis' URL: how it writes to its disk, and until when that is believed."""
