"""Everything launchq raises on purpose.

LaunchqError
├── InputError        the input cannot be used; carries every problem found        (exit 2)
├── NotFoundError     no job or batch has this id                                 (exit 2)
├── RefusedError      the ledger refuses this act in the job's present state      (exit 2)
├── LedgerError       Redis is out of reach, or is not fit to keep the ledger     (exit 1)
│   └── OutdatedError a newer launchq uses the ledger                             (exit 1)
├── SealedError       what is sealed in Redis fits none of this process' keys     (exit 1)
└── IllegalMoveError  a state was asked for a move that its table does not have   (a bug)

Settings that cannot be used raise `config.SettingsError` instead: `config/` imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input, for a person to read.

    `path` is the field in the API's own spelling (`billing.chargeMode`, `nodePorts[1]`), empty when the whole
    entry is meant. `where` is the file and the entry (`fleet.json, entry 3`), empty when there is only one.
    `right` says what would be right.
    """

    path: str
    wrong: str
    right: str = ""
    where: str = ""

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.path) if part)
        text = f"{head}: {self.wrong}" if head else self.wrong
        return f"{text}; {self.right}" if self.right else text


class LaunchqError(Exception):
    """The base of every error that launchq raises on purpose."""


class InputError(LaunchqError):
    """The input cannot be used. Every problem found is in `problems`; nothing was enqueued."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NotFoundError(LaunchqError):
    """No job or batch has this id."""


class RefusedError(LaunchqError):
    """The ledger refuses this act in the job's present state."""


class LedgerError(LaunchqError):
    """Redis is out of reach, or is not fit to keep the ledger."""


class OutdatedError(LedgerError):
    """A newer launchq uses this ledger, and this one cannot read everything in it."""


class SealedError(LaunchqError):
    """Something is sealed with a key that this process does not have."""


class IllegalMoveError(LaunchqError):
    """A state was asked for a move that its table does not have: a bug in launchq."""
