"""`/metrics`: what the ledger can say cheaply at the moment of asking, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from launchq.board.access import admitted
from launchq.board.context import Board, TheBoard
from ledger.calls import Account
from ledger.measures import CALL, SHIFT
from tasks.errors import LedgerError
from tasks.states import Event, State

router = APIRouter(include_in_schema=False, dependencies=[Depends(admitted)])

WORKER_SILENCE = 10.0
"""Seconds of silence after which a worker does not count as alive."""

ACCOUNT_STATES = ("open", "paused", "blocked")
LANE_STATES = ("open", "narrow", "soldOut")


@router.get("/metrics")
def metrics(board: TheBoard) -> Response:
    """All metrics, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ledger(board))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Ledger(Collector):
    """Three calls to Redis for each scrape. Labels are of tables, beside at most 100 lanes."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """All metrics; where Redis is out of reach, that alone."""
        began = time.perf_counter()
        up = GaugeMetricFamily("launchq_ledger_up", "1: the ledger could be read.")
        try:
            account = self._board.launcher.account()
            moves = self._board.launcher.ledger.moves()
            measures = self._board.launcher.ledger.measures()
        except LedgerError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield GaugeMetricFamily(
            "launchq_ledger_read_seconds", "How long that took.", value=time.perf_counter() - began
        )
        yield GaugeMetricFamily(
            "launchq_board_watchers", "Who follows events or waits.", value=self._board.hub.watching
        )
        yield from of_account(account)
        yield from of_moves(moves)
        yield from of_measures(measures)


def of_moves(moves: dict[tuple[str, str], int]) -> Iterator[Metric]:
    """What has happened to jobs, ever."""
    attempts = moves.get((Event.CLAIM, ""), 0)
    yield CounterMetricFamily("launchq_attempts", "Jobs claimed for a create call.", value=attempts)
    happened = CounterMetricFamily(
        "launchq_moves",
        "What happened to jobs (docs/design.md has the table), and the category of the error, if there was one.",
        labels=["event", "category"],
    )
    for (event, category), times in sorted(moves.items()):
        happened.add_metric([event, category], times)
    yield happened


def of_measures(kept: Mapping[str, str]) -> Iterator[Metric]:
    """How long calls took, and how many a shift made, ever."""
    for measure, name, what in (
        (CALL, "launchq_create_call_seconds", "How long create calls took."),
        (SHIFT, "launchq_shift_calls", "Create calls that a shift made."),
    ):
        buckets, total = measure.read(kept)
        yield HistogramMetricFamily(name, what, buckets=buckets, sum_value=total)


def of_account(account: Account) -> Iterator[Metric]:
    """Where everything stands."""
    jobs = GaugeMetricFamily("launchq_jobs", "Jobs that are kept, by state.", labels=["state"])
    for state in State:
        jobs.add_metric([str(state)], account.counts[state])
    yield jobs
    states = GaugeMetricFamily(
        "launchq_account_state", "1 for the state that the account is in.", labels=["state"]
    )
    for name in ACCOUNT_STATES:
        states.add_metric([name], account.state == name)
    yield states
    yield GaugeMetricFamily(
        "launchq_token_present", "1: there is a token for all workers.", value=account.token["present"]
    )
    if ends := account.token["expiresAt"]:
        left = (ends - account.now).total_seconds()
        yield GaugeMetricFamily(
            "launchq_token_remaining_seconds", "How long the token is still good.", value=max(0.0, left)
        )
    lag = (account.now - account.next_due).total_seconds() if account.next_due else 0.0
    yield GaugeMetricFamily(
        "launchq_due_lag_seconds",
        "For how long the first job that could be claimed has been due.",
        value=max(0.0, lag),
    )
    alive = sum(age < WORKER_SILENCE for age in account.workers.values())
    yield GaugeMetricFamily("launchq_workers", "Workers heard in the last 10 seconds.", value=alive)
    yield from _of_lanes(account)


def _of_lanes(account: Account) -> Iterator[Metric]:
    due = GaugeMetricFamily("launchq_lane_due_jobs", "Jobs that are due in a lane.", labels=["lane"])
    flying = GaugeMetricFamily(
        "launchq_lane_in_flight", "Create calls of a lane that are under way.", labels=["lane"]
    )
    states = GaugeMetricFamily(
        "launchq_lane_state", "1 for the state that a lane with due jobs is in.", labels=["lane", "state"]
    )
    for lane in account.lanes:
        due.add_metric([lane.name], lane.due)
        flying.add_metric([lane.name], lane.in_flight)
        for name in LANE_STATES:
            states.add_metric([lane.name, name], lane.state == name)
    yield from (due, flying, states)
