"""The table of states: what can follow what, and what never can."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import IllegalMoveError
from tasks.states import (
    ATTEMPT_EVENTS,
    ENDS,
    IN_DOUBT,
    INITIAL,
    MOVES,
    WATCHED,
    Event,
    State,
    markdown_table,
    next_state,
)

DESIGN = Path(__file__).resolve().parents[2] / "docs" / "design.md"
STARTS = (INITIAL, State.SCHEDULED)
"""Where a job may begin: at once, or when its time comes."""
Edge = tuple[State, Event, State]
EDGES: list[Edge] = [(old, event, new) for old, moves in MOVES.items() for event, new in moves.items()]


def reachable(start: Iterable[State], allowed: Callable[[Edge], bool]) -> set[State]:
    """Every state that some path of allowed moves leads to, the starts left out unless a path comes back to them."""
    found: set[State] = set()
    frontier = set(start)
    while frontier:
        frontier = {edge[2] for edge in EDGES if edge[0] in frontier and allowed(edge)} - found
        found |= frontier
    return found


def walk(events: Iterable[Event], start: State = INITIAL) -> list[tuple[State, Event, State]]:
    """The moves that these events make of a new job; a move that the table does not have changes nothing."""
    state, moves = start, []
    for event in events:
        try:
            new = next_state(state, event)
        except IllegalMoveError:
            continue
        moves.append((state, event, new))
        state = new
    return moves


@given(st.lists(st.sampled_from(Event), max_size=60), st.sampled_from(STARTS))
def test_no_sequence_of_events_leaves_the_table(events: list[Event], start: State) -> None:
    for move in walk(events, start):
        assert move in EDGES
        assert move[2] in MOVES


@given(st.lists(st.sampled_from(Event), max_size=60))
def test_a_new_call_follows_an_unknown_end_only_after_that_attempts_own_answer(events: list[Event]) -> None:
    unknown = False
    for _old, event, new in walk(events):
        if new is State.UNCERTAIN:
            unknown = True
        elif event in {Event.DEFER, Event.FAIL, Event.CREATE}:
            unknown = False
        assert not (unknown and new is State.SUBMITTING)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_a_move_is_the_tables_or_an_error_that_names_both(state: State, event: Event) -> None:
    if event in MOVES[state]:
        assert next_state(state, event) is MOVES[state][event]
    else:
        with pytest.raises(IllegalMoveError, match=f"{state}.*{event}"):
            next_state(state, event)


def test_every_state_has_a_row_and_is_reachable() -> None:
    assert set(MOVES) == set(State)
    assert reachable(STARTS, lambda _: True) | set(STARTS) == set(State)


def test_a_time_that_has_come_does_not_go_away() -> None:
    assert State.SCHEDULED not in {new for _, _, new in EDGES}
    assert {(old, new) for old, event, new in EDGES if event is Event.FALL_DUE} == {
        (State.SCHEDULED, State.QUEUED)
    }


def test_a_job_is_given_up_only_while_it_waits() -> None:
    assert {(old, new) for old, event, new in EDGES if event is Event.GIVE_UP} == {
        (old, State.FAILED) for old in (State.SCHEDULED, State.QUEUED, State.RETRYING)
    }


def test_every_state_that_is_not_an_end_leads_to_every_end() -> None:
    for state in set(State) - ENDS:
        assert reachable([state], lambda _: True) >= ENDS


def test_only_a_claim_starts_a_call_and_only_from_a_state_that_waits() -> None:
    into = {(old, event) for old, event, new in EDGES if new is State.SUBMITTING}
    assert into == {(State.QUEUED, Event.CLAIM), (State.RETRYING, Event.CLAIM)}


@pytest.mark.parametrize("end", sorted(ENDS - {State.UNCERTAIN}))
def test_an_end_leads_to_a_new_call_only_through_a_rearm(end: State) -> None:
    assert State.SUBMITTING not in reachable([end], lambda edge: edge[1] is not Event.REARM)
    # Its own first step must be the rearm, not one that comes later; or what was bought after all, which is the end.
    assert set(MOVES[end]) <= {Event.REARM, Event.CREATE}


def test_a_bought_instance_is_the_end_of_the_matter() -> None:
    assert MOVES[State.SUCCEEDED] == {}


def test_what_was_bought_is_believed_in_every_state_but_that_of_another_instance() -> None:
    never_sent = {State.SCHEDULED}
    for state in set(State) - never_sent - {State.SUCCEEDED}:
        assert MOVES[state][Event.CREATE] is State.SUCCEEDED


def test_what_is_in_doubt_moves_only_by_an_answer_to_what_its_attempt_did() -> None:
    assert {State.VERIFYING, State.UNCERTAIN} == IN_DOUBT
    answers = {Event.CREATE, Event.DEFER, Event.FAIL}
    assert set(MOVES[State.UNCERTAIN]) == answers
    assert set(MOVES[State.VERIFYING]) == answers | {Event.PARK}
    assert answers <= ATTEMPT_EVENTS
    for state in IN_DOUBT:

        def not_answered(edge: Edge) -> bool:
            return not (edge[0] in IN_DOUBT and edge[1] in answers)

        assert reachable([state], not_answered) <= {State.UNCERTAIN}


def test_an_unknown_end_of_a_call_is_always_looked_up() -> None:
    for event in (Event.DOUBT, Event.EXPIRE):
        assert {new for _, happened, new in EDGES if happened is event} == {State.VERIFYING}


def test_only_the_lookups_end_leaves_it_to_a_person() -> None:
    into = {(old, event) for old, event, new in EDGES if new is State.UNCERTAIN}
    assert into == {(State.VERIFYING, Event.PARK)}


def test_somebody_looks_after_every_attempt_whose_end_is_not_known() -> None:
    assert {State.SUBMITTING, State.VERIFYING} == WATCHED


def test_a_job_can_be_cancelled_only_while_no_call_may_be_under_way() -> None:
    assert {old for old, event, _ in EDGES if event is Event.CANCEL} == {
        State.SCHEDULED, State.QUEUED, State.RETRYING,
    }  # fmt: skip


def test_the_documents_table_says_what_the_table_says() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown_table().splitlines()]
    head, rule, *body = rows
    assert set("".join(rule)) <= set("- ")
    assert head[0] == "state"
    shown = {
        State(state): {Event(event): State(new) for event, new in zip(head[1:], cells, strict=True) if new}
        for state, *cells in body
    }
    assert shown == MOVES


def test_the_design_document_shows_the_table() -> None:
    text = DESIGN.read_text(encoding="utf-8")
    shown = re.findall(r"<!-- states -->\n(.*?)\n<!-- /states -->", text, re.DOTALL)
    assert [block.strip() for block in shown] == [markdown_table()]
