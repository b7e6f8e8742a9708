"""What a scenario is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import SubprocessError
from typing import Protocol

from bench.results import Result
from bench.subjects import Peer, Subject
from bench.world import Cloud, World, world


class Teller(Protocol):
    """Tells whoever watches how far things are."""

    def begin(self, title: str, steps: int) -> None: ...
    def step(self, text: str) -> None: ...


@dataclass(frozen=True)
class Bench:
    """How this run is made, and the world it is made in.

    `quick`: tiny sizes, to see that everything works. `rounds`: how often everything is measured, in turns. `peers`: whether
    alternatives are installed and measured. `jobs`: another number of jobs than a scenario's own.
    """

    folder: Path
    tell: Teller
    quick: bool = False
    rounds: int = 3
    peers: bool = True
    jobs: int | None = None
    fsync: str = "always"
    redis_binary: str | None = None

    def size(self, full: int, quick: int) -> int:
        """A number of jobs, or of anything that is to be small in a quick run."""
        return quick if self.quick else full

    @contextmanager
    def world(self, *, cloud: Cloud | None = None, fsync: str | None = None) -> Iterator[World]:
        """A fresh Redis, and a cloud unless one is given."""
        logs = self.folder / "logs"
        with world(logs, binary=self.redis_binary, fsync=fsync or self.fsync, cloud=cloud) as made:
            yield made

    @contextmanager
    def cloud(self) -> Iterator[Cloud]:
        """A cloud for many worlds, one after the other."""
        with Cloud(self.folder / "logs") as cloud:
            yield cloud

    def installed(self, subjects: Sequence[Subject], result: Result) -> list[Subject]:
        """Those subjects that are to be measured and could be installed; the result says which could not."""
        found: list[Subject] = []
        for subject in subjects:
            if isinstance(subject, Peer) and not self.peers:
                continue
            try:
                subject.prepare()
            except (SubprocessError, OSError) as error:
                result.notes.append(f"{subject.name} could not be installed ({type(error).__name__}).")
            else:
                found.append(subject)
        return found


@dataclass(frozen=True)
class Scenario:
    """One thing to measure. `order` is its place in the report."""

    name: str
    title: str
    order: int
    run: Callable[[Bench], Result]


def in_turns(subjects: Sequence[Subject], rounds: int) -> Iterator[tuple[int, Subject]]:
    """Every subject in every round; each round begins with another one, so that nobody always runs first."""
    for number in range(rounds):
        shift = number % max(1, len(subjects))
        for subject in (*subjects[shift:], *subjects[:shift]):
            yield number, subject
