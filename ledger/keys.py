"""Every Redis key of the ledger. `docs/redis.md` shows each with an example.

All keys share the hash tag `{prefix}`, so that one script may touch any of them on Redis Cluster.
The scripts build their keys from the same table: see `lua_names`.
"""

from __future__ import annotations

from typing import Final

NAMES: Final = {
    # hash: one job; see docs/redis.md for its fields. Until `retention` after the job's end.
    "job": "job:",
    # hash: what jobs have in common (the request but for its name, and how they are tried), and how many `jobs` there are of
    # it. Goes with the last of them.
    "template": "template:",
    # list: what happened to one job, a JSON document an entry, the latest 50. Goes with its job.
    "history": "history:",
    # sorted set: id of a job that waits for its time -> when it is due (ms).
    "due": "due",
    # sorted set: the jobs of one lane that wait for a claim, by when they first fell due (ms). Gone when empty.
    "ready": "ready:",
    # sorted set: a lane with jobs in `ready` -> when it may be served next (ms). Gone when empty.
    "lanes": "lanes",
    # hash: a lane whose jobs wait for capacity: calls in flight, how many there may be, when it is probed next and why.
    # An hour after its last use.
    "lane": "lane:",
    # sorted set: id of a job that waits in this lane, the latest that it may use, and has another choice -> when it may use
    # that one (ms). Gone when empty.
    "choices": "choices:",
    # sorted set: a sold-out lane with jobs in `choices` -> when the first of them may use its next choice (ms). Gone when empty.
    "openings": "openings",
    # sorted set: id of a job that is tried until a certain time only -> that time (ms). A member until its job's end.
    "deadlines": "deadlines",
    # hash: the account's budget of create calls (a token bucket), and how far too many calls have lowered it. For ever.
    "rate": "rate",
    # sorted set: id of a job whose last attempt may have created an instance that nobody has noted -> when to look what
    # became of it (ms): the end of its lease, then its next lookup.
    "leases": "leases",
    # sorted set: job id -> when it ended (ms). Until `retention` after.
    "ended": "ended",
    # sorted set: id of a job -> when it last changed (ms): of all but those that have waited in line ever since they were
    # entered. A member goes with its job.
    "changed": "changed",
    # string: every job has its place in that order; missing in a ledger of before there was one, until it is listed. For ever.
    "ordered": "ordered",
    # hash: what happened to jobs, and of what category (`defer:throttled`) -> how often. For ever.
    "moves": "moves",
    # hash: what workers have measured, in buckets (measures.py). For ever.
    "measures": "measures",
    # string: where a job's submission stands in its trace; for jobs that were traced. Seven days.
    "trace": "trace:",
    # hash: state -> number of jobs. For ever.
    "counts": "counts",
    # hash: one batch: total, createdAt and a count by state. Goes with its last job.
    "batch": "batch:",
    # sorted set: id of each batch -> when it was made (ms). A member goes with its batch.
    "batches": "batches",
    # sorted set: the jobs of a batch that may not be sent yet, since the batch is held or has as many calls in flight as it may,
    # by when they first fell due (ms). Gone when empty.
    "held": "held:",
    # set: batches with jobs in `held`. Gone when empty.
    "holding": "holding",
    # hash: entry of a batch -> job id. Goes with its batch.
    "entries": "entries:",
    # string: a producer's idempotency key -> job id. Goes with its job.
    "key": "key:",
    # hash: whether the account is open, paused or blocked, and why. For ever.
    "account": "account",
    # hash: credentials (by fingerprint) -> logins since one proved good, and when the next may be. For ever.
    "logins": "logins",
    # hash: the token that every worker uses. Until it is replaced or refused.
    "token": "token",
    # string: who is logging in now. Seconds.
    "login": "login",
    # list: what one claim took, so that a claim whose answer was lost can be asked again. Lives as long as a lease.
    "claim": "claim:",
    # string: a wake-up is under way, so another would be too many. Two seconds.
    "wake": "wake",
    # string: a shift with room looks for due jobs by itself. 0.3 seconds.
    "watch": "watch",
    # sorted set: worker -> when it was last heard (ms). Members go after a day.
    "workers": "workers",
    # hash: instance id -> the job that it belongs to. Goes with its job.
    "owners": "owners",
    # sorted set: instance id -> when it was first seen (ms), in a listing or as a job's. Gone 30 days later, once the list
    # no longer shows it.
    "seen": "seen",
    # hash: an exact name -> number of jobs with a create call under way for it. For ever; names at zero go.
    "flying": "flying",
    # hash: an exact name -> number of jobs that do not know whether they have created an instance of it. As above.
    "doubted": "doubted",
    # hash: when the instances were last listed to the end, how long it took, when it last failed. For ever.
    "listing": "listing",
    # string: who is listing the instances now, or has just done so. Seconds.
    "lookup": "lookup",
    # hash: an address that notifications go to (by its mark) -> when a worker last had it (ms), and what it is told. No such
    # key without such a worker; a member goes after 7 days without one.
    "notify": "notify",
    # hash: what an address is still to be told, gathered by what it is about. At most 500 documents; goes when empty.
    "outbox": "outbox:",
    # hash: the message that is being sent to an address, who sends it, and how it went with those before. Goes with the address.
    "delivery": "delivery:",
    # string: an address was told of this a short time ago: for how long it is not told again, and until when. Minutes.
    "told": "told:",
    # hash: one recurring schedule: when it comes up, and what became of its last trigger. Until it is removed.
    "schedule": "schedule:",
    # sorted set: name of a schedule -> its next trigger (ms), +inf while it is paused. Until it is removed.
    "schedules": "schedules",
    # list: the entries of one schedule, 250 in each element. Goes with its schedule.
    "launches": "launches:",
    # string: which worker is running one schedule's trigger. Two seconds.
    "firing": "firing:",
    # hash: when the catalogue may be read next for its stock, and how often in a row it could not be. An hour after its last use.
    "stock": "stock",
    # stream: every change of a job's state, the latest 100,000 or so.
    "events": "events",
    # hash: name of a token of the board -> its SHA-256, and what it may do. Until it is removed.
    "passes": "passes",
    # string: SHA-256 of a browser's session at the board -> SHA-256 of the token that it began with. Twelve hours.
    "session": "session:",
}


class Keys:
    """The full names of the keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.base = f"{{{prefix}}}:"

    def job(self, job_id: str) -> str:
        """hash: one job"""
        return self.base + NAMES["job"] + job_id

    def batch(self, batch_id: str) -> str:
        """hash: one batch"""
        return self.base + NAMES["batch"] + batch_id

    def entries(self, batch_id: str) -> str:
        """hash: entry of a batch -> job id"""
        return self.base + NAMES["entries"] + batch_id

    def key(self, idempotency_key: str) -> str:
        """string: a producer's idempotency key -> job id"""
        return self.base + NAMES["key"] + idempotency_key

    def ready(self, lane: str) -> str:
        """sorted set: the jobs of one lane that wait for a claim"""
        return self.base + NAMES["ready"] + lane

    def held(self, batch_id: str) -> str:
        """sorted set: the jobs of a batch that may not be sent yet"""
        return self.base + NAMES["held"] + batch_id

    @property
    def holding(self) -> str:
        """set: batches with jobs in `held`"""
        return self.base + NAMES["holding"]

    @property
    def lanes(self) -> str:
        """sorted set: a lane with jobs that wait for a claim -> when it may be served next (ms)"""
        return self.base + NAMES["lanes"]

    def claim(self, claim_id: str) -> str:
        """list: what one claim took"""
        return self.base + NAMES["claim"] + claim_id

    @property
    def seen(self) -> str:
        """sorted set: instance id -> when it was first seen (ms)"""
        return self.base + NAMES["seen"]

    @property
    def moves(self) -> str:
        """hash: what happened to jobs -> how often"""
        return self.base + NAMES["moves"]

    @property
    def measures(self) -> str:
        """hash: what workers have measured, in buckets"""
        return self.base + NAMES["measures"]

    def trace(self, job_id: str) -> str:
        """string: where a job's submission stands in its trace"""
        return self.base + NAMES["trace"] + job_id

    @property
    def events(self) -> str:
        """stream: every change of a job's state"""
        return self.base + NAMES["events"]

    @property
    def passes(self) -> str:
        """hash: name of a token of the board -> its SHA-256, and what it may do"""
        return self.base + NAMES["passes"]

    def session(self, digest: str) -> str:
        """string: SHA-256 of a browser's session -> SHA-256 of the token that it began with"""
        return self.base + NAMES["session"] + digest

    @property
    def account(self) -> str:
        """hash: whether the account is open"""
        return self.base + NAMES["account"]

    @property
    def token(self) -> str:
        """hash: the token that every worker uses"""
        return self.base + NAMES["token"]

    @property
    def workers(self) -> str:
        """sorted set: worker -> when it was last heard (ms)"""
        return self.base + NAMES["workers"]


def lua_names() -> str:
    """The table above as Lua, for the head of every script."""
    return "local NAMES = {" + ", ".join(f"{name}='{text}'" for name, text in NAMES.items()) + "}"
