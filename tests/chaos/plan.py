"""What a run does to its subject, all of it decided by the seed before anything starts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

FAULT_MIX = {
    "close-before": 3,
    "close-after": 3,
    "reset-before": 2,
    "reset-after": 2,
    "hang-before": 2,
    "hang-after": 2,
    "garbage-before": 1,
    "garbage-after": 2,
    "half": 2,
    "500-before": 2,
    "500-after": 2,
    "502-before": 2,
    "502-after": 2,
    "429": 1,
    "expired": 2,
}
"""How often the faults of create calls are met, compared with each other. After half of them an instance exists."""

LIST_FAULT_MIX = {
    "close-before": 1,
    "hang-before": 1,
    "garbage-before": 1,
    "half": 1,
    "500-before": 1,
    "502-before": 1,
}
"""The same for list calls, which buy nothing."""

FIRST_REDIS_KILL = 2.0
"""Seconds after the start: by then many calls are in flight."""


class Kind(StrEnum):
    """What strikes."""

    WORKER = "kill a worker"
    REDIS = "kill Redis"
    REDIS_BACK = "start Redis"


@dataclass(frozen=True, order=True)
class Strike:
    """One blow: seconds after the start, what, and for a worker the place (0 ...) of the one that dies."""

    at: float
    kind: Kind
    place: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Times are in seconds, shares from 0 to 1."""

    jobs: int = 2000
    workers: int = 3
    processes: int = 2
    """Child processes of each worker."""
    concurrency: int = 20
    """Calls in flight in each child process; a kill hits up to `processes` * `concurrency` of them."""
    seed: int = 7
    faults: float = 0.3
    """Share of create calls that meet a fault of `FAULT_MIX`."""
    list_faults: float = 0.05
    """Share of list calls that meet a fault of `LIST_FAULT_MIX`."""
    refused: float = 0.03
    """Share of the time in which the cloud refuses connections."""
    kill_every: float = 1.5
    """Time between two kills of workers on average; 0 kills none."""
    kill_for: float = 60.0
    """Time from the start in which workers are killed. Then whoever is not done can recover."""
    redis_kills: int = 1
    token_life: float = 5.0
    latency: float = 0.5
    """Time that the cloud takes for an answer."""
    request_timeout: float = 2.0
    verify_delays: str = "1,2,4"
    """Times after an unknown end at which launchq looks for the instance."""
    hard_end: float = 900.0
    """Time after which the run reports what it has."""

    @property
    def hang(self) -> float:
        """How long a hanging call hangs: longer than anybody waits for it."""
        return 2 * self.request_timeout + 1

    def create_fault_rates(self) -> dict[str, float]:
        """The probability of each fault of create calls."""
        return self._rates(FAULT_MIX, self.faults)

    def list_fault_rates(self) -> dict[str, float]:
        """The probability of each fault of list calls."""
        return self._rates(LIST_FAULT_MIX, self.list_faults)

    def names(self) -> list[str]:
        """A name for each job, no two alike."""
        return [f"trainer-{number:04}" for number in range(1, self.jobs + 1)]

    def strikes(self) -> list[Strike]:
        """Every blow, in the order of time."""
        return sorted([*self._worker_kills(), *self._redis_kills()])

    def _worker_kills(self) -> Iterator[Strike]:
        dice = random.Random(f"{self.seed} workers")
        at = 0.0
        while self.kill_every > 0 and (at := at + self.kill_every * dice.uniform(0.5, 1.5)) < self.kill_for:
            yield Strike(at, Kind.WORKER, dice.randrange(self.workers))

    def _redis_kills(self) -> Iterator[Strike]:
        dice = random.Random(f"{self.seed} redis")
        for number in range(self.redis_kills):
            down = FIRST_REDIS_KILL + 6.0 * number + dice.uniform(0, 2)
            yield Strike(down, Kind.REDIS)
            yield Strike(down + dice.uniform(0.3, 1.5), Kind.REDIS_BACK)

    def _rates(self, mix: dict[str, int], share: float) -> dict[str, float]:
        whole = sum(mix.values())
        return {
            f"{fault}:{self.hang:g}" if fault.startswith("hang") else fault: share * part / whole
            for fault, part in mix.items()
        }
