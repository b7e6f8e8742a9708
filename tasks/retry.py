"""What follows from a verdict: try again, when, or give up. Decisions only; nothing here sleeps or sends.

| verdict | event | counts as an attempt | uses up the budget |
| --- | --- | --- | --- |
| created | create | yes | |
| rejected | fail | yes | |
| auth | defer, due at once | no | no |
| throttled | defer, by `Retry-After` or backoff; the account pauses | yes | yes |
| capacity | spot: defer by the capacity interval; others: fail | yes | no |
| balance | defer, due at once; the account is blocked | no | no |
| transient | defer by backoff with full jitter | yes | yes |
| unknown | doubt: looked up in the list of instances before anything else | yes | yes |
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.states import Event
from tasks.verdicts import Judgement, Verdict

RETRY_AFTER_CAP = 3600.0
"""Seconds. A longer `Retry-After` is not believed: one strange answer must not stop an account for a day."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to keep at it. `base` and `cap` of the backoff and `capacity_interval` are in seconds."""

    max_attempts: int = 8
    base: float = 1.0
    cap: float = 60.0
    capacity_interval: float = 30.0

    def backoff(self, tries: int, dice: float) -> float:
        """The wait, in seconds, after the `tries`-th try, with full jitter: `dice` is a random number from [0, 1)."""
        return self.ceiling(tries) * dice

    def ceiling(self, tries: int) -> float:
        """The longest wait, in seconds, after the `tries`-th try: exponential, up to `cap`."""
        return min(self.cap, self.base * 2.0 ** min(tries - 1, 63))


@dataclass(frozen=True)
class Outcome:
    """One attempt's report to the ledger.

    `delay` (seconds, from now) is when a deferred job is due again. `category` says of what kind the message is.
    `counts`: the call counts as one of the job's attempts. `spends`: it uses up one of the job's tries.
    `pause`: seconds for which the whole account claims nothing; `blocks`: the account is blocked with this message.
    """

    event: Event
    category: str = ""
    message: str = ""
    instance_id: str = ""
    delay: float = 0.0
    counts: bool = True
    spends: bool = False
    pause: float = 0.0
    blocks: bool = False

    @property
    def reason(self) -> str:
        """What a deferred job waits for."""
        if self.event is not Event.DEFER:
            return ""
        return self.category if self.category in REASONS else Verdict.NOT_SENT


REASONS = frozenset({Verdict.NOT_SENT, Verdict.THROTTLED, Verdict.AUTH_EXPIRED, Verdict.NO_CAPACITY})
"""What a job can wait for."""

UNSENT = Outcome(
    Event.DEFER,
    category=Verdict.NOT_SENT,
    message="held back: it could not be made sure in time that sending it was safe",
    delay=1.0,
    counts=False,
)
"""The attempt was claimed and then not made. A second's rest, so that nothing can make it go round and round."""

GIVEN_BACK = Outcome(
    Event.DEFER,
    category=Verdict.NOT_SENT,
    message="given back unsent: the worker that took it had no room for it in time",
    counts=False,
)
"""The attempt was claimed for the reserve of a worker, and no call of it was made. Any worker may take it at once."""

UNOPENED = Outcome(
    Event.DEFER,
    category=Verdict.NOT_SENT,
    message="held back: the worker that took it lacks the key that the request or the token is sealed with; "
    "give every worker the same LAUNCHQ_SECRET_KEY",
    delay=60.0,
    counts=False,
)
"""The attempt was claimed by a worker that cannot read what it would have to send. A longer rest: most likely it will be
the same worker that takes it again."""


def decide(
    judgement: Judgement,
    *,
    tries: int,
    max_attempts: int,
    waits_for_capacity: bool,
    policy: RetryPolicy,
    dice: float,
) -> Outcome:
    """What follows from this attempt.

    `tries` counts the tries that used up the budget before this one; `dice` is a random number from [0, 1).
    """
    verdict, message = judgement.verdict, judgement.message
    match verdict:
        case Verdict.CREATED:
            return Outcome(Event.CREATE, instance_id=judgement.instance_id)
        case Verdict.REJECTED:
            return Outcome(Event.FAIL, verdict, message)
        case Verdict.UNKNOWN:
            return Outcome(Event.DOUBT, verdict, message, spends=True)
        case Verdict.AUTH_EXPIRED:
            return Outcome(Event.DEFER, verdict, message, counts=False)
        case Verdict.BLOCKED:
            return Outcome(Event.DEFER, verdict, message, counts=False, blocks=True)
        case Verdict.NO_CAPACITY:
            if not waits_for_capacity:
                return Outcome(Event.FAIL, verdict, message)
            # A little jitter, so that jobs of one hour do not keep asking in the same second for ever.
            return Outcome(Event.DEFER, verdict, message, delay=policy.capacity_interval * (0.9 + 0.2 * dice))
        case Verdict.THROTTLED:
            asked = judgement.retry_after
            pause = policy.ceiling(tries + 1) if asked is None else min(asked, RETRY_AFTER_CAP)
            return _again_or_fail(
                judgement, tries, max_attempts, delay=pause + policy.base * dice, pause=pause
            )
        case Verdict.NOT_SENT:
            return _again_or_fail(judgement, tries, max_attempts, delay=policy.backoff(tries + 1, dice))


def _again_or_fail(
    judgement: Judgement, tries: int, max_attempts: int, *, delay: float, pause: float = 0.0
) -> Outcome:
    event = Event.FAIL if tries + 1 >= max_attempts else Event.DEFER
    return Outcome(event, judgement.verdict, judgement.message, delay=delay, spends=True, pause=pause)
