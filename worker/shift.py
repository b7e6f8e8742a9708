"""The shift: one run of the Celery task. It claims due jobs and keeps many create calls in flight on one event loop.

One coroutine does all the bookkeeping, in a circle: write down how calls ended, claim as many jobs as there is room
for, start their calls, wait until something happens. Only the calls themselves run beside it, so a slow one holds up
nobody, and the ledger sees a few grouped writes instead of one a job.

While calls end faster than the circle goes round, it claims a few jobs more than there is room for: the reserve. Where an
instance was created, a job of the reserve takes the call's place at once. Otherwise calls that end together would wait
together for Redis, and begin and end together ever after.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from config import Settings, traces
from ledger import AsyncLedger, calls
from ledger.calls import AccountNews, Claim, Claimed, HeldToken, Report
from ledger.durability import Durability
from ledger.measures import CALL, SHIFT, Tally
from tasks.errors import LedgerError
from tasks.retry import GIVEN_BACK, UNOPENED, UNSENT, Outcome, RetryPolicy, decide
from tasks.states import Event
from tasks.verdicts import MessageRules, Verdict, judge
from worker import clock
from worker.cloud import Cloud, Credential
from worker.lookup import Lookup
from worker.tokens import TokenKeeper, fingerprint_of

logger = logging.getLogger("launchq.shift")

LEASE_MARGIN = 5.0
"""Seconds that a lease outlasts the longest call. A call starts only within the first half of them: the second half is
there to write down how it ended."""

GROUPING = 0.004
"""Seconds to wait after a call has ended for others to end too, so that they are written down together."""

GROUPING_AHEAD = 0.02
"""The same while there is a reserve: nobody waits for it, and larger groups cost less."""

LOOK_AGAIN = 0.05
"""Seconds between looks for due jobs while calls are in flight and there is room."""

LINGER = 0.5
"""Seconds: a job that falls due this soon is waited for; for a later one the pulse starts another shift."""

HAND_OVER = 1.0
"""Seconds for which a shift whose time is up waits for its last calls. If some take longer, it goes on, unless messages
wait for a free process: stopping to claim until a hanging call ends would hold up every other job of this one."""

RESERVE = 2
"""How many turns' worth of created instances is claimed ahead: as many as in a turn lately, and as many again since turns differ."""

TURNS = 16
"""How many turns are lately: many, so that slow calls that end together, once in a while, do not count as quick ones."""

RESERVE_PATIENCE = 0.5
"""Seconds that a job stays in the reserve. Then calls end more slowly than they did, and others may have room for it."""

BROKER_PATIENCE = 5.0
"""Seconds for the broker to say whether messages wait."""

MEASURES_SECONDS = 5.0
"""How often what was measured is written down, beside at a shift's end."""

IDLE = 30.0
"""Seconds for which a connection to Redis is used again by the next shift: longer unused, something between may have dropped it."""

LEDGER_PATIENCE = 0.2
"""Seconds between tries while Redis is out of reach."""


@dataclass(frozen=True)
class Taken:
    """A claimed job, with what its claim says of it: until when its call may begin, whether it is on Redis' disk, and its trace."""

    job: Claimed
    token: HeldToken | None
    send_before: float
    on_disk: asyncio.Task[bool] | None
    traced: asyncio.Task[dict[str, str]] | None


@dataclass(frozen=True)
class Surroundings:
    """What a shift needs to know of the worker around it.

    `stopping` is asked before every claim. `wake_up` calls another process when there is too much to do, and
    `messages_wait` tells whether jobs of producers that only have Celery wait for a free process; both may take a
    moment, and raise what the broker raises.
    """

    stopping: Callable[[], bool]
    wake_up: Callable[[], None]
    messages_wait: Callable[[], bool]


class Shifts:
    """The shifts of one process, one after another: each has a client of its own for the cloud, closed at its end, so that no
    connection outlives it idle and goes stale. The event loop and the connection to Redis pass from each to the next."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()
        self._ledger: AsyncLedger | None = None
        self._ended = clock.now()

    def run(self, around: Surroundings) -> None:
        """One shift."""
        self._runner.run(self._run(around))

    async def _run(self, around: Surroundings) -> None:
        if self._ledger is None:
            self._ledger = AsyncLedger.of(self._settings)
        elif clock.now() - self._ended > IDLE:
            await self._ledger.close()  # its connections; it makes new ones
        try:
            async with Cloud(self._settings.api_url, timeout=self._settings.request_timeout) as cloud:
                await Shift(self._settings, self._ledger, cloud, around).run()
        finally:
            self._ended = clock.now()
            await _end_all_others()

    def close(self) -> None:
        """Close the connection and the loop."""
        if self._ledger is not None:
            self._runner.run(self._ledger.close())
        self._runner.close()


async def _end_all_others() -> None:
    """What a shift has left behind at its end is given up, and does not go on in the next one."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Shift:
    """One shift."""

    def __init__(self, settings: Settings, ledger: AsyncLedger, cloud: Cloud, around: Surroundings) -> None:
        self._settings = settings
        self._ledger = ledger
        self._cloud = cloud
        self._around = around
        self._tokens = TokenKeeper(settings, ledger, cloud)
        self._api_key = Credential.api_key(settings.api_key.get_secret_value()) if settings.api_key else None
        self._key_mark = fingerprint_of(settings) if settings.api_key else ""
        self._policy = RetryPolicy(
            max_attempts=settings.max_attempts,
            base=settings.backoff_base,
            cap=settings.backoff_cap,
            capacity_interval=settings.capacity_interval,
        )
        self._lookup = Lookup(
            settings, ledger, cloud, policy=self._policy, api_key=self._api_key, key_mark=self._key_mark
        )
        self._rules = MessageRules.of(settings.capacity_messages, settings.balance_messages)
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._calls: set[asyncio.Task[bool]] = set()
        self._reserve: deque[Taken] = deque()
        self._lately: deque[int] = deque(maxlen=TURNS)
        self._created = 0
        self._goes_on = True
        self._renewing: set[asyncio.Task[None]] = set()
        self._looking_up: set[asyncio.Task[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._tokenless = False
        self._reports: list[Report] = []
        self._refused = 0
        self._taken = ""
        self._something_ended = asyncio.Event()
        self._tally = Tally()
        self._made = 0
        self._told = clock.now()
        # Of traced attempts that have ended and are not written down yet: where each stands in its trace, and when it ended (ns).
        self._ended: dict[tuple[str, str], tuple[str, int]] = {}
        self._claim_id = ""
        self._claim_began = 0.0
        self._first = True

    async def run(self) -> None:
        """Claim and submit until nothing is due, the time is up, or the worker stops; then finish what is in flight."""
        time_up = clock.now() + self._settings.shift_seconds
        give_up: float | None = None
        draining = False
        while True:
            now = clock.now()
            if give_up is None and self._around.stopping():
                give_up = now + self._settings.request_timeout
            stopping = give_up is not None
            if now > time_up + HAND_OVER and not draining:
                draining = await self._messages_wait()
                time_up = time_up if draining else now + self._settings.shift_seconds
            self._give_back(0 if stopping else RESERVE_PATIENCE)
            settled = await self._settle()
            self._goes_on = settled and not stopping
            claim: Claim | None = None
            if self._goes_on and now <= time_up and (room := self._room()) > 0:
                claim = await self._claim(room)
                if claim is not None:
                    self._act_on(claim)
            self._start_calls(self._settings.concurrency)
            if (
                self._calls
                or self._reserve
                or self._reports
                or self._renewing
                or (self._looking_up and not stopping)
            ):
                if give_up is not None and not self._calls and not settled and clock.now() > give_up:
                    self._lament()
                    break
                await self._something_happens(settled=settled)
            elif stopping or now > time_up:
                break
            elif self._claim_id:
                # Redis did not answer, and this claim may have taken jobs: ask again until they would have expired.
                if clock.now() - self._claim_began > self._lease:
                    break
                await asyncio.sleep(LEDGER_PATIENCE)
            elif (
                claim is None
                or claim.token_sealed
                or claim.why not in ("", "listing", "rate")
                or claim.wait is None
                or claim.wait > LINGER
            ):
                break
            else:
                await asyncio.sleep(max(claim.wait, GROUPING))
        await self._leave(more=not stopping and clock.now() > time_up)

    @property
    def _lease(self) -> float:
        return self._settings.request_timeout + LEASE_MARGIN

    def _room(self) -> int:
        """For how many more jobs there is room: idle calls, and a reserve by how many instances were created in a turn lately."""
        self._lately.append(self._created)
        self._created = 0
        ahead = RESERVE * sum(self._lately) // len(self._lately)
        limit = self._settings.concurrency
        return limit + min(ahead, limit // 2) - len(self._calls) - len(self._reserve)

    async def _claim(self, room: int) -> Claim | None:
        """Claim so many jobs at the most; None where Redis did not answer."""
        if not self._claim_id or clock.now() - self._claim_began > self._lease:
            self._claim_id, self._claim_began = uuid.uuid4().hex, clock.now()
        call = calls.claim(
            self._claim_id,
            limit=room,
            lease=self._lease,
            worker=self._worker,
            api_key=self._key_mark,
            first=self._first,
            watching=bool(self._calls or self._reports or self._looking_up),
            vault=self._ledger.vault,
            rate=self._settings.rate_limit,
        )
        try:
            claim = await self._ledger.run(call)
        except LedgerError as error:
            logger.warning("cannot claim: %s", error)
            return None
        self._first = False
        return claim

    def _act_on(self, claim: Claim) -> None:
        """Start the calls for what was claimed, and see to the token, to lookups and to help."""
        send_before = self._claim_began + LEASE_MARGIN / 2
        on_disk = asyncio.create_task(self._on_disk(self._claim_id)) if claim.jobs else None
        traced = asyncio.create_task(self._traces(claim.jobs)) if claim.jobs and traces.active() else None
        self._claim_id = ""
        self._reserve.extend(
            Taken(job, claim.token, send_before, on_disk, traced) for job in self._openable(claim)
        )
        if claim.why in ("paused", "blocked", "token", "version"):
            self._give_back(0)
        if claim.token_sealed and claim.why == "listing":
            logger.error(
                "the token is sealed with a key that is not in LAUNCHQ_SECRET_KEY here: nothing can be sent"
            )
        elif claim.lookup and not claim.token_sealed and not self._looking_up:
            self._keep(self._looking_up, self._look_up())
        if claim.wake:
            self._keep(self._background, self._call_others())
        if self._renewing:
            return
        if claim.why == "token" and not self._tokenless:
            self._keep(self._renewing, self._renew(None))
        elif claim.token is not None and self._tokens.wants_renewal(claim.token):
            self._keep(self._renewing, self._renew(claim.token))

    def _start_calls(self, many: int) -> None:
        """Start so many calls out of the reserve, as far as there is room."""
        while self._reserve and many and self._goes_on and len(self._calls) < self._settings.concurrency:
            task = asyncio.create_task(self._attempt(self._reserve.popleft()))
            self._calls.add(task)
            task.add_done_callback(self._on_call_ended)
            many -= 1

    def _on_call_ended(self, task: asyncio.Task[bool]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and task.result():
            self._created += 1
            self._start_calls(1)

    def _give_back(self, patience: float) -> None:
        """Return what has been in the reserve for longer than this many seconds; for the next, calls have to be quick again."""
        latest = clock.now() + LEASE_MARGIN / 2 - patience
        while self._reserve and self._reserve[0].send_before <= latest:
            job = self._reserve.popleft().job
            self._reports.append(Report(job.id, job.attempt, GIVEN_BACK))
            self._something_ended.set()
            self._lately.extend([0] * TURNS)

    def _openable(self, claim: Claim) -> Iterator[Claimed]:
        """The jobs that this worker can send; the others go back, for workers that have the key."""
        back = []
        for job in claim.jobs:
            if job.request is None or claim.token_sealed:
                back.append(Report(job.id, job.attempt, UNOPENED))
            else:
                yield job
        if back:
            what = "the token" if claim.token_sealed else "the request"
            logger.error(
                "%d jobs go back unsent, %s first: %s is sealed with a key that is not in LAUNCHQ_SECRET_KEY here",
                len(back),
                back[0].id,
                what,
            )
            self._reports += back
            self._something_ended.set()

    def _keep(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _on_disk(self, claim_id: str) -> bool:
        """Whether what a claim took is safe, once for the whole group: before that, nothing of it may be sent."""
        try:
            if await self._ledger.durability() is not Durability.AWAITED:
                return True  # either it is on the disk already, or there is nothing to wait for
            return await self._ledger.on_disk(claim_id, self._lease)
        except LedgerError as error:
            logger.warning(
                "held back, since it is not known whether their claim is on Redis' disk: %s", error
            )
            return False

    async def _look_up(self) -> None:
        try:
            await self._lookup.make()
        except LedgerError as error:
            logger.warning("cannot look up: %s", error)
        except Exception:  # whatever it is, the jobs in doubt stay in doubt, and are looked up again
            logger.exception("the lookup itself failed")
        self._something_ended.set()

    async def _renew(self, held: HeldToken | None) -> None:
        try:
            self._tokenless = not await self._tokens.renew(held) and held is None
        except LedgerError as error:
            logger.warning("no token: %s", error)
            self._tokenless = held is None
        self._something_ended.set()

    async def _call_others(self) -> None:
        try:
            await asyncio.to_thread(self._around.wake_up)
        except Exception as error:  # noqa: BLE001 (each broker has errors of its own; the pulse calls again)
            logger.warning("no wake-up could be sent: %s", error)

    async def _messages_wait(self) -> bool:
        try:
            async with asyncio.timeout(BROKER_PATIENCE):
                return await asyncio.to_thread(self._around.messages_wait)
        except Exception as error:  # noqa: BLE001 (each broker has errors of its own; without it none can wait)
            logger.warning("cannot ask the broker for waiting messages: %s", error)
            return False

    async def _traces(self, jobs: Sequence[Claimed]) -> dict[str, str]:
        try:
            return await self._ledger.traces([job.id for job in jobs])
        except Exception as error:  # noqa: BLE001 (whatever it is, no call is to be lost for its trace)
            logger.debug("these attempts begin traces of their own: %s", error)
            return {}

    async def _attempt(self, taken: Taken) -> bool:
        """One create call. Whether it created an instance."""
        job = taken.job
        parent = "" if taken.traced is None else (await taken.traced).get(job.id, "")
        with traces.span("launchq.attempt", parent, job=job.id, attempt=job.attempt) as span:
            outcome = await self._outcome(taken)
            span.set(event=outcome.event, category=outcome.category)
        if span.place:
            self._ended[job.id, job.attempt] = span.place, traces.now()
        self._reports.append(Report(job.id, job.attempt, outcome))
        self._something_ended.set()
        return outcome.event is Event.CREATE

    async def _outcome(self, taken: Taken) -> Outcome:
        job = taken.job
        try:
            safe = taken.on_disk is None or await taken.on_disk
            return await self._submit(job, taken.token, taken.send_before) if safe else UNSENT
        except Exception as error:  # whatever went wrong in here, the call may have been made
            logger.exception("job %s: the attempt itself failed", job.id)
            return Outcome(
                Event.DOUBT,
                Verdict.UNKNOWN,
                f"launchq failed during the create call ({type(error).__name__})",
                spends=True,
            )

    async def _submit(self, job: Claimed, token: HeldToken | None, send_before: float) -> Outcome:
        credential = self._api_key or self._credential_of(token)
        if credential is None or job.request is None or clock.now() > send_before:
            return UNSENT
        began = clock.now()
        judgement = judge(await self._cloud.create(job.body, credential), self._rules)
        self._tally.add(CALL, clock.now() - began)
        self._made += 1
        if judgement.verdict is Verdict.AUTH_EXPIRED:
            if token is not None:
                self._refused = max(self._refused, int(token.version))
            else:
                await self._block_for(judgement.message)
        elif judgement.verdict not in (Verdict.NOT_SENT, Verdict.UNKNOWN):
            self._taken = self._key_mark or "token"
        return decide(
            judgement,
            tries=job.tries,
            max_attempts=job.max_attempts or self._policy.max_attempts,
            waits_for_capacity=job.waits,
            policy=self._policy,
            dice=random.random(),  # noqa: S311 (jitter, not a secret)
        )

    def _credential_of(self, token: HeldToken | None) -> Credential | None:
        try:
            return Credential.token(token.value) if token else None
        except ValueError as error:
            logger.error("the token cannot be used: %s", error)
            if token is not None:
                self._refused = max(self._refused, int(token.version))
            return None

    async def _block_for(self, message: str) -> None:
        """The API key was refused, and no login can make another."""
        try:
            text = f"the API key was refused: {message}"
            await self._ledger.run(calls.block(text, credentials=self._key_mark, refused=True, api_key=True))
        except LedgerError as error:
            logger.warning("cannot block the account: %s", error)

    async def _settle(self) -> bool:
        """Write down how calls ended. False where Redis did not answer; the reports are kept and written later."""
        if not self._reports:
            return True
        reports, refused = self._reports, self._refused
        news = AccountNews(str(refused) if refused else "", self._taken)
        try:
            states = await self._ledger.run(
                calls.settle(reports, news, verify_delays=self._settings.verify_delays)
            )
        except LedgerError as error:
            logger.warning("cannot write down how %d calls ended, will try again: %s", len(reports), error)
            return False
        # Calls that ended during the write have added to the same list, behind the ones written.
        written = reports[: len(states)]
        del reports[: len(states)]
        self._taken = ""
        if clock.now() - self._told > MEASURES_SECONDS:
            self._told = clock.now()
            self._keep(self._background, self._tell_measures())
        if self._refused == refused:
            self._refused = 0
        for report, state in zip(written, states, strict=True):
            if ended := self._ended.pop((report.id, report.attempt), None):
                traces.note("launchq.settle", *ended, job=report.id, state=state)
            if state == "surplus":
                logger.error(
                    "job %s: attempt %s created %s after it had been given up; look in the console",
                    report.id,
                    report.attempt,
                    report.outcome.instance_id,
                )
        return True

    async def _something_happens(self, *, settled: bool) -> None:
        """Until a call has ended and a moment has passed for others, or it is time to look for due jobs."""
        if not settled:
            await asyncio.sleep(LEDGER_PATIENCE)
            return
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await self._something_ended.wait()
        except TimeoutError:
            return
        self._something_ended.clear()
        await asyncio.sleep(GROUPING_AHEAD if self._reserve else GROUPING)

    def _lament(self) -> None:
        """The worker stops and Redis is still away: what was bought must at least be found in the log."""
        for report in self._reports:
            what = report.outcome.instance_id or f"no instance known ({report.outcome.event})"
            logger.error("job %s, attempt %s, could not be written down: %s", report.id, report.attempt, what)

    async def _tell_measures(self) -> None:
        try:
            await self._ledger.add_measures(self._tally.take())
        except LedgerError as error:
            logger.debug("what was measured is lost: %s", error)

    async def _leave(self, *, more: bool) -> None:
        self._tally.add(SHIFT, self._made)
        self._keep(self._background, self._tell_measures())
        if more:
            await self._call_others()
        if self._background:
            await asyncio.wait(self._background, timeout=self._settings.request_timeout)
