"""The states of a job and every legal move between them: this table is the only place that knows.

    submit ──> queued ──claim──> submitting ──created──> succeeded
                 ^                 │  │  │                   ^
                 │     try later ──┘  │  └── unknown,        │ found
              claim                   │      lease over ──> verifying ──> not found: try later
                 │                    │                      │
              retrying                └── rejected ─> failed └── cannot be told ──> uncertain

A job that is `verifying` or `uncertain` may have bought an instance: nothing sends it again until that is known. The
list of instances says it, or a person, or the attempt's own late answer (its worker was slow, not dead).

An attempt that created an instance is always believed, as long as no other attempt has followed it: what was bought must
be known, also where the job was given up in the meantime.

Python asks `next_state`; the Lua scripts of the ledger get the same table as their first lines; the documents'
table is made from `MOVES` too.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tasks.errors import IllegalMoveError


class State(StrEnum):
    """Where a job stands."""

    SCHEDULED = "scheduled"
    """Its time has not come."""
    QUEUED = "queued"
    """Due: the next worker with room takes it."""
    SUBMITTING = "submitting"
    """A create call may be under way."""
    RETRYING = "retrying"
    """Waits for its next attempt; the job's `reason` says for what."""
    VERIFYING = "verifying"
    """The end of its last attempt is unknown: the list of instances is asked whether it created one."""
    SUCCEEDED = "succeeded"
    """An instance exists, and its id is known."""
    FAILED = "failed"
    """No instance exists, and the job's `message` says why."""
    CANCELLED = "cancelled"
    """Taken back before anything was sent, or after an attempt that certainly created nothing."""
    UNCERTAIN = "uncertain"
    """An instance may exist or not; a person has to look."""


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    """A worker takes the job for one attempt."""
    CREATE = "create"
    """The attempt created an instance."""
    DEFER = "defer"
    """The attempt certainly created nothing, and another may follow later."""
    FAIL = "fail"
    """The attempt certainly created nothing, and no other follows."""
    DOUBT = "doubt"
    """Nobody knows whether the attempt created an instance."""
    PARK = "park"
    """The list of instances cannot tell either."""
    EXPIRE = "expire"
    """The attempt's lease ran out without a word from its worker."""
    FALL_DUE = "due"
    """Its time has come."""
    GIVE_UP = "giveUp"
    """The time is up until which it was to be tried."""
    CANCEL = "cancel"
    """Somebody takes the job back."""
    REARM = "rearm"
    """Somebody wants a job tried again that ended without an instance."""


MOVES: Final[dict[State, dict[Event, State]]] = {
    State.SCHEDULED: {
        Event.FALL_DUE: State.QUEUED,
        Event.GIVE_UP: State.FAILED,
        Event.CANCEL: State.CANCELLED,
    },
    State.QUEUED: {
        Event.CLAIM: State.SUBMITTING,
        Event.CREATE: State.SUCCEEDED,
        Event.GIVE_UP: State.FAILED,
        Event.CANCEL: State.CANCELLED,
    },
    State.RETRYING: {
        Event.CLAIM: State.SUBMITTING,
        Event.CREATE: State.SUCCEEDED,
        Event.GIVE_UP: State.FAILED,
        Event.CANCEL: State.CANCELLED,
    },
    State.SUBMITTING: {
        Event.CREATE: State.SUCCEEDED,
        Event.DEFER: State.RETRYING,
        Event.FAIL: State.FAILED,
        Event.DOUBT: State.VERIFYING,
        Event.EXPIRE: State.VERIFYING,
    },
    State.VERIFYING: {
        Event.CREATE: State.SUCCEEDED,
        Event.DEFER: State.RETRYING,
        Event.FAIL: State.FAILED,
        Event.PARK: State.UNCERTAIN,
    },
    State.UNCERTAIN: {
        Event.CREATE: State.SUCCEEDED,
        Event.DEFER: State.RETRYING,
        Event.FAIL: State.FAILED,
    },
    State.FAILED: {Event.CREATE: State.SUCCEEDED, Event.REARM: State.QUEUED},
    State.CANCELLED: {Event.CREATE: State.SUCCEEDED, Event.REARM: State.QUEUED},
    State.SUCCEEDED: {},
}

INITIAL: Final = State.QUEUED
"""Where every job starts."""

ENDS: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.UNCERTAIN})
"""The states in which launchq does nothing more by itself."""

IN_DOUBT: Final = frozenset({State.VERIFYING, State.UNCERTAIN})
"""The states of a job whose last attempt may have created an instance that nobody has noted."""

WATCHED: Final = frozenset({State.SUBMITTING, State.VERIFYING})
"""The states in which somebody must look after the last attempt: when its lease ends, then when its lookups are due."""

ATTEMPT_EVENTS: Final = frozenset({Event.CREATE, Event.DEFER, Event.FAIL, Event.DOUBT})
"""The events that an attempt reports about itself; each must name the attempt."""


def next_state(state: State, event: Event) -> State:
    """Where `event` leads from `state`; IllegalMoveError names both where the table has no such move."""
    try:
        return MOVES[state][event]
    except KeyError:
        raise IllegalMoveError(f"a job that is {state} has no move for the event {event}") from None


def markdown_table() -> str:
    """The table as the documents show it."""
    lines = ["| state | " + " | ".join(Event) + " |", "| --- |" + " --- |" * len(Event)]
    for state in State:
        cells = " | ".join(MOVES[state].get(event, "") for event in Event)
        lines.append(f"| {state} | {cells} |")
    return "\n".join(lines)
