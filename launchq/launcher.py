"""The Python door: for producers, which submit, and pollers, which read."""

from __future__ import annotations

import getpass
import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from config import Settings, load, traces
from launchq.changes import Changes
from ledger import Ledger, calls
from ledger.calls import Account, Done, Limits
from tasks.entries import Entry, identify
from tasks.errors import InputError, NotFoundError, Problem, RefusedError
from tasks.jobs import KEY_LENGTH, Batch, Job, Receipt, Submission
from tasks.policy import Fallback, Policy
from tasks.states import WATCHED, State

if TYPE_CHECKING:
    from celery import Celery

    from tasks.request import LaunchRequest

logger = logging.getLogger("launchq")

Request: TypeAlias = "LaunchRequest | Mapping[str, Any]"

CHECK_SECONDS = 5.0
"""How often a wait looks at the jobs themselves: events may be cut from the stream's end before a slow waiter reads them."""

ACT_AT_ONCE = 500
"""How many jobs one call to the ledger acts on."""


class Launcher:
    """Submits launch requests and reads what became of them. Safe to share between threads.

    `settings` are the process' own (`LAUNCHQ_*`) unless given. Every method raises LedgerError where Redis is out of
    reach. What takes requests accepts a `LaunchRequest` or a mapping in the API's own names, and raises InputError
    with everything that is wrong.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load()
        traces.begin(self.settings.traces, "launchq")
        self.ledger = Ledger.of(self.settings)
        self._changes = Changes(self.ledger)
        self._celery: Celery | None = None

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.ledger.close()
        if self._celery is not None:
            self._celery.close()

    def submit(
        self,
        request: Request,
        *,
        key: str | None = None,
        max_attempts: int | None = None,
        unique_names: bool = False,
        wait_for_capacity: bool | None = None,
        until: float | None = None,
        not_before: datetime | timedelta | None = None,
        fallbacks: Sequence[Mapping[str, Any]] = (),
        allow_unknown_fields: bool = False,
    ) -> Job:
        """Enter one job and return it.

        With a `key`, the same request under the same key returns the job that exists and launches nothing; another
        request under it raises RefusedError. `max_attempts` counts tries that failed for a passing reason. `unique_names`
        adds `-` and eight characters of the job's id to the name sent, so that its instance is known for certain.
        `wait_for_capacity`: ask again while sold out (default: spot instances do). `until`: seconds from its start in which
        it is tried (default: a day where it waits for capacity; math.inf is for ever). `not_before`: an aware time, or so
        long from now. `fallbacks`: what to change, in this order, where there is no capacity, such as {"region": "...",
        "after": 1800} (seconds from its start). `allow_unknown_fields` sends fields that the API's document does not list, unchanged.
        """
        checked = _checked(request, allow_unknown=allow_unknown_fields, where="")
        policy = Policy(
            max_attempts, unique_names, wait_for_capacity, until, not_before, checked_fallbacks(fallbacks)
        )
        submission = Submission.of(
            checked, new_id(), key=key, policy=policy, allow_unknown=allow_unknown_fields
        )
        [receipt] = self.enqueue([submission])
        return self.job(receipt.id)

    def submit_many(
        self,
        requests: Iterable[Request],
        *,
        batch: str | None = None,
        max_attempts: int | None = None,
        unique_names: bool = False,
        wait_for_capacity: bool | None = None,
        until: float | None = None,
        not_before: datetime | timedelta | None = None,
        fallbacks: Sequence[Mapping[str, Any]] = (),
        max_parallel: int | None = None,
        stop_after_failures: int | None = None,
        allow_unknown_fields: bool = False,
    ) -> Batch:
        """Enter many jobs as one batch: all, or, where one is wrong, none. The batch's `jobs` are in the order given.

        Submitting a batch of the same name again enters only entries that it does not have. An entry is known by its
        name; the second of the same name is `name#2`. Without a name, the batch is a new one. At most `max_parallel` of its
        calls are in flight at once; once `stop_after_failures` of its jobs have failed, the rest is held until `resume`. 0 is
        any number, None leaves that as it is.
        """
        problems: list[Problem] = []
        entries: list[Entry] = []
        for number, given in enumerate(requests, start=1):
            where = f"entry {number}"
            try:
                request = _checked(given, allow_unknown=allow_unknown_fields, where=where)
                entries.append(Entry(where, request, request.name))
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        if not entries:
            raise InputError([Problem("", "there is nothing to launch", "give at least one request")])
        batch_id = checked_batch(batch) if batch is not None else f"batch-{uuid.uuid4().hex[:12]}"
        policy = Policy(
            max_attempts, unique_names, wait_for_capacity, until, not_before, checked_fallbacks(fallbacks)
        )
        submissions = [
            Submission.of(
                entry.request,
                new_id(),
                entry=entry.identity,
                policy=policy,
                allow_unknown=allow_unknown_fields,
            )
            for entry in identify(entries)
        ]
        limits = Limits(max_parallel, stop_after_failures)
        receipts = self.enqueue(submissions, batch=batch_id, limits=limits)
        return replace(self.batch(batch_id), jobs=receipts)

    def enqueue(
        self, submissions: Sequence[Submission], *, batch: str = "", limits: Limits | None = None
    ) -> tuple[Receipt, ...]:
        """Enter submissions that are checked already, and wake the workers. `limits` are the batch's from then on."""
        with traces.span("launchq.submit", jobs=len(submissions), batch=batch) as span:
            if span.place:
                self.ledger.note_traces([one.id for one in submissions], span.place)
            loading: threading.Thread | None = None
            if self._celery is None:  # Celery takes a tenth of a second to load, in which Redis is at work
                loading = threading.Thread(target=self._load_celery, daemon=True)
                loading.start()
            entered = self.ledger.enqueue(submissions, batch=batch, limits=limits)
        if entered.wake:
            if loading is not None:
                loading.join()
            self._wake()
        return entered.receipts

    def job(self, job_id: str) -> Job:
        """One job; NotFoundError where there is none."""
        return self.ledger.job(job_id)

    def batch(self, batch_id: str) -> Batch:
        """One batch; NotFoundError where there is none."""
        return self.ledger.batch(batch_id)

    def list_jobs(
        self, *, state: State | None = None, batch: str | None = None, limit: int = 100
    ) -> list[Job]:
        """Jobs, the latest change first; `limit` 0 is all."""
        return self.ledger.list_jobs(state=state, batch=batch, limit=limit)

    def account(self) -> Account:
        """Whether the account is open, paused or blocked, and why; counts; workers."""
        return self.ledger.run(calls.status())

    def wait(self, ids: Iterable[str], timeout: float | None = None) -> list[Job]:
        """The jobs, once all have ended or `timeout` seconds are over; `Job.ended` tells which have.

        An id may be a batch's: it stands for all its jobs. Costs Redis next to nothing: all that wait on one `Launcher`
        share one reader of its events.
        """
        latest: dict[str, Job] = {}
        for job in self.watch(ids, timeout=timeout):
            latest[job.id] = job
        return list(latest.values())

    def watch(self, ids: Iterable[str], timeout: float | None = None) -> Iterator[Job]:
        """Every job as it is now, and again at each change, until all have ended or `timeout` seconds are over.

        Or until nothing more can happen: the others are of batches that are held, since too many of their jobs failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        job_ids = self.resolve_ids(ids)
        seen: dict[str, Job] = {}
        changed: Iterable[str] = job_ids
        checked = time.monotonic()
        one_failed = False
        with self._changes.of(job_ids) as watcher:
            while True:
                for job in self._existing(list(changed)):
                    if seen.get(job.id) != job:
                        seen[job.id] = job
                        one_failed = one_failed or job.state is State.FAILED
                        yield job
                waiting = {job_id for job_id in job_ids if not seen[job_id].ended}
                if waiting and one_failed and self.held_after_failures(seen[job_id] for job_id in waiting):
                    return
                left = math.inf if deadline is None else deadline - time.monotonic()
                if not waiting or left <= 0:
                    return
                until_check = checked + CHECK_SECONDS - time.monotonic()
                changed = waiting & watcher.wait(max(0.0, min(left, until_check)))
                if time.monotonic() - checked >= CHECK_SECONDS:
                    checked, changed = time.monotonic(), waiting

    def cancel(self, ids: Iterable[str]) -> dict[str, Done]:
        """Take jobs (or whole batches) back; what is being submitted ends as it ends, and is only not tried again."""
        return self._act(ids, lambda group: self.ledger.run(calls.cancel(group)))

    def retry(self, ids: Iterable[str]) -> dict[str, Done]:
        """Make jobs (or whole batches' jobs) due again that failed or were cancelled. No other state can be retried.

        A batch that is held after failures goes on.
        """
        act, wake = uuid.uuid4().hex, False

        def rearm(group: Sequence[str]) -> list[Done]:
            nonlocal wake
            wanted, done = self.ledger.run(calls.rearm(act, group))
            wake = wake or wanted
            return done

        given = [ids] if isinstance(ids, str) else list(ids)
        results = self._act(given, rearm)
        for batch in set(given) - results.keys():
            self.ledger.run(calls.hold(batch, "go on after failures"))
        if wake:
            self._wake()
        return results

    def held_after_failures(self, jobs: Iterable[Job]) -> list[str]:
        """The batches of these jobs, if all of them are held after failures and no call of these jobs is under way."""
        batches = set()
        for job in jobs:
            if job.batch_id is None or job.state in WATCHED:
                return []
            batches.add(job.batch_id)
        held = [batch for batch in batches if self.batch(batch).held == "failures"]
        return sorted(held) if len(held) == len(batches) else []

    def pause(self, batch: str | None = None, *, who: str | None = None) -> None:
        """Hold a batch, or the whole account: nothing of it is sent any more, calls in flight end as they end.

        NotFoundError where there is no such batch. `who` is kept with a pause of the account: the user of this process unless given.
        """
        if batch is None:
            self.ledger.run(calls.pause(who or _user()))
        elif not self.ledger.run(calls.hold(batch, "person")):
            raise NotFoundError(f"no batch has the id {batch}")

    def resume(self, batch: str | None = None) -> None:
        """Have a held batch, or a paused account, go on. NotFoundError where there is no such batch."""
        if batch is None:
            self.ledger.run(calls.pause(""))
        elif not self.ledger.run(calls.hold(batch, "go on")):
            raise NotFoundError(f"no batch has the id {batch}")
        self._wake()

    def resolve(self, job_id: str, *, created: str | None, reason: str = "", who: str | None = None) -> Job:
        """Say what happened to an uncertain job: the id of the instance that was `created`, or None that none was.

        The job then is `succeeded`, or `failed` and may be retried; who said so (the user of this process unless
        given), when and why is kept. RefusedError where the job is not uncertain, or the instance is another job's.
        """
        if created is not None and not (
            created.strip() and created.isprintable() and len(created) <= KEY_LENGTH
        ):
            right = "the id as the console or the API shows it: notebook-..."
            raise InputError([Problem("", "this is no instance id", right, "created")])
        call = calls.resolve(job_id, instance_id=created or "", who=who or _user(), why=reason)
        what, about = self.ledger.run(call)
        if what == "absent":
            raise NotFoundError(f"no job has the id {job_id}")
        if what == "refused":
            raise RefusedError(f"job {job_id} is {about}: only an uncertain job can be resolved")
        if what == "owned":
            raise RefusedError(f"{created} is the instance of job {about}: one instance cannot be two jobs'")
        return self.job(job_id)

    def set_token(self, token: str) -> None:
        """Keep a token for all workers, and open an account that is blocked for want of one.

        As the console shows it, also with `AccessToken=` before it. InputError where it is no token, or has ended already.
        """
        token = token.strip().removeprefix("AccessToken=")
        expires_at = checked_token(token, now=self.ledger.time())
        vault = self.ledger.vault
        self.ledger.run(calls.store_token(token, source="set-token", vault=vault, expires_at=expires_at))
        self._wake()

    def resolve_ids(self, ids: Iterable[str]) -> list[str]:
        """The ids of jobs, batches replaced by their jobs. NotFoundError names every id that is neither."""
        found: list[str] = []
        missing: list[str] = []
        given = [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
        for job_id, job in zip(given, self.ledger.jobs(given), strict=True):
            members = [job_id] if job is not None else self.ledger.batch_job_ids(job_id)
            found += members
            if not members:
                missing.append(job_id)
        if missing:
            raise NotFoundError("no job or batch has the id " + ", ".join(missing))
        return list(dict.fromkeys(found))

    def _existing(self, job_ids: list[str]) -> list[Job]:
        jobs = self.ledger.jobs(job_ids)
        gone = [job_id for job_id, job in zip(job_ids, jobs, strict=True) if job is None]
        if gone:
            raise NotFoundError("these jobs are no longer kept: " + ", ".join(gone))
        return [job for job in jobs if job is not None]

    def _act(self, ids: Iterable[str], act: Any) -> dict[str, Done]:
        job_ids = self.resolve_ids(ids)
        results: dict[str, Done] = {}
        for at in range(0, len(job_ids), ACT_AT_ONCE):
            group = job_ids[at : at + ACT_AT_ONCE]
            results.update(zip(group, act(group), strict=True))
        return results

    def _load_celery(self) -> None:
        with suppress(Exception):  # whatever it is, a wake-up meets it again and says so
            self._make_celery()

    def _make_celery(self) -> Celery:
        from worker.app import make_app

        if self._celery is None:
            self._celery = make_app(self.settings)
        return self._celery

    def _wake(self) -> None:
        from worker.app import send_wake_up

        try:
            send_wake_up(self._make_celery(), self.settings)
        except Exception as error:  # noqa: BLE001 (each broker has errors of its own)
            # The job is in the ledger; a lost wake-up only means that the workers' pulse finds it, within seconds.
            logger.warning("the workers could not be woken, they will look by themselves: %s", error)


def _user() -> str:
    """Who runs this process, for the record."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def new_id() -> str:
    """A new job's id."""
    return str(uuid.uuid4())


def checked_batch(name: str) -> str:
    """A batch's name that can be used; InputError where it cannot."""
    if not name.strip() or not name.isprintable() or len(name) > KEY_LENGTH:
        raise InputError(
            [
                Problem(
                    "",
                    f"the batch's name {name[:40]!r} cannot be used",
                    f"1 to {KEY_LENGTH} printable characters",
                )
            ]
        )
    return name


def checked_fallbacks(fallbacks: Sequence[Mapping[str, Any]]) -> tuple[Fallback, ...]:
    """Fallbacks as a fleet file has them; InputError where one cannot be used."""
    if not fallbacks:
        return ()
    from tasks.launch_keys import policy_of, read_keys

    problems: list[Problem] = []
    keys = read_keys({"fallbacks": [dict(one) for one in fallbacks]}, problems)
    if problems:
        raise InputError(problems)
    return policy_of(keys).fallbacks


def checked_token(token: str, *, now: float) -> int | None:
    """When a token ends, in seconds since 1970 (like `now`); None where it does not say. InputError where it is no good."""
    from worker.claims import fits_a_header, read_claims

    if not fits_a_header(token):
        right = "copy the value of AccessToken from the console: one word, nothing around it"
        raise InputError([Problem("", "this is no token", right, "token")])
    ends = read_claims(token).get("exp")
    if ends is not None and ends <= now:
        raise InputError(
            [Problem("", "this token has ended already", "log in again and copy the new one", "token")]
        )
    return None if ends is None else int(ends)


def _checked(request: Request, *, allow_unknown: bool, where: str) -> LaunchRequest:
    from tasks.request import LaunchRequest, parse_request

    if isinstance(request, LaunchRequest):
        return request
    body = dict(request) if isinstance(request, Mapping) else request
    return parse_request(body, allow_unknown=allow_unknown, where=where)
