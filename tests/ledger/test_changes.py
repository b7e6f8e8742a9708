"""Waiting: threads that wait on one `Launcher` share one reader of the events, and no end escapes them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest

import launchq.changes
import launchq.launcher
from config import load
from cutter import Cutter
from harness import wait_until
from launchq import Launcher
from launchq.changes import Changes
from ledger_box import Box, report
from tasks.errors import LedgerError
from tasks.jobs import Job
from tasks.states import Event, State

LATER = timedelta(hours=1)


@pytest.fixture
def launcher(box: Box) -> Iterator[Launcher]:
    with Launcher(load({"LAUNCHQ_REDIS_URL": box.url, "LAUNCHQ_PREFIX": box.prefix})) as made:
        yield made


@contextmanager
def waiting(launcher: Launcher, ids: list[str], *, timeout: float | None = 20) -> Iterator[list[Future[Job]]]:
    """A thread for each id, waiting for its end; all have seen their jobs once."""
    looked = threading.Semaphore(0)

    def wait(job_id: str) -> Job:
        latest: list[Job] = []
        for job in launcher.watch([job_id], timeout=timeout):
            latest.append(job)
            looked.release()
        return latest[-1]

    with ThreadPoolExecutor(len(ids)) as threads:
        waits = [threads.submit(wait, job_id) for job_id in ids]
        for _ in ids:
            assert looked.acquire(timeout=20)
        yield waits


@pytest.fixture
def readers() -> Callable[[], int]:
    """How many threads that read events have begun since, and not ended. Those of tests before may still be about to end."""
    others = set(threading.enumerate())
    return lambda: sum(
        thread.name == "launchq-events" and thread not in others for thread in threading.enumerate()
    )


def blocked(box: Box) -> int:
    """How many connections wait in Redis for events of this box."""
    return sum(client["cmd"] == "xread" and "b" in client["flags"] for client in box.redis.client_list())


def no_checks(patch: pytest.MonkeyPatch) -> None:
    """Only events tell of changes."""
    patch.setattr(launchq.launcher, "CHECK_SECONDS", 3600.0)


def test_any_number_of_threads_share_one_reader(
    box: Box, launcher: Launcher, monkeypatch: pytest.MonkeyPatch, readers: Callable[[], int]
) -> None:
    no_checks(monkeypatch)
    ids = box.enter(*(f"n{number}" for number in range(150)), not_before=LATER)
    with waiting(launcher, ids) as waits:
        wait_until(lambda: blocked(box) == 1, description="the reader waits for events")
        assert readers() == 1
        box.cancel(*ids[:75])
        assert {wait.result(timeout=20).id for wait in waits[:75]} == set(ids[:75])
        assert not any(wait.done() for wait in waits[75:])
        box.cancel(*ids[75:])
        assert {wait.result().state for wait in waits} == {State.CANCELLED}


def test_many_may_wait_for_one_job(box: Box, launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    no_checks(monkeypatch)
    [job_id] = box.enter("a", not_before=LATER)
    with waiting(launcher, [job_id] * 20) as waits:
        box.cancel(job_id)
        assert {wait.result().state for wait in waits} == {State.CANCELLED}


def test_a_change_before_the_first_look_at_the_news_is_told(box: Box) -> None:
    [job_id] = box.enter("a", not_before=LATER)
    with Changes(box.ledger).of([job_id]) as watcher:
        box.cancel(job_id)
        assert watcher.wait(20) == {job_id}
        assert watcher.wait(0.01) == set()


def test_only_changes_of_its_jobs_are_told(box: Box) -> None:
    mine, other = box.enter("a", "b", not_before=LATER)
    changes = Changes(box.ledger)
    with changes.of([mine]) as watcher, changes.of([other]) as beside:
        box.cancel(other)
        assert beside.wait(20) == {other}
        assert watcher.wait(0) == set()


def test_every_step_of_a_job_is_seen(box: Box, launcher: Launcher) -> None:
    [job_id] = box.enter("a")
    seen = []
    for job in launcher.watch([job_id], timeout=20):
        seen.append(job.state)
        if job.state is State.QUEUED:
            claimed = box.take()
        elif job.state is State.SUBMITTING:
            box.settle(report(claimed, Event.CREATE))
    assert seen == [State.QUEUED, State.SUBMITTING, State.SUCCEEDED]


def test_a_wait_that_is_over_in_time_says_how_it_stands(box: Box, launcher: Launcher) -> None:
    [job_id] = box.enter("a", not_before=LATER)
    began = time.monotonic()
    [job] = launcher.wait([job_id], timeout=0.3)
    assert time.monotonic() - began >= 0.3
    assert job.state is State.SCHEDULED


def test_an_end_of_which_no_event_tells_is_found_all_the_same(
    box: Box, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchq.launcher, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(Changes, "_read", lambda *_: None)
    [job_id] = box.enter("a", not_before=LATER)
    with waiting(launcher, [job_id]) as [wait]:
        box.cancel(job_id)
        assert wait.result().state is State.CANCELLED


def test_the_reader_ends_when_nobody_waits_and_begins_again(
    box: Box, launcher: Launcher, monkeypatch: pytest.MonkeyPatch, readers: Callable[[], int]
) -> None:
    no_checks(monkeypatch)
    monkeypatch.setattr(launchq.changes, "BLOCK_SECONDS", 0.1)
    for name in ("a", "b"):
        [job_id] = box.enter(name, not_before=LATER)
        with waiting(launcher, [job_id]) as [wait]:
            assert readers() == 1
            box.cancel(job_id)
            assert wait.result().state is State.CANCELLED
        wait_until(lambda: readers() == 0, description="the reader has ended")


def test_a_watch_that_is_left_half_way_leaves_nothing_behind(
    box: Box, launcher: Launcher, monkeypatch: pytest.MonkeyPatch, readers: Callable[[], int]
) -> None:
    monkeypatch.setattr(launchq.changes, "BLOCK_SECONDS", 0.1)
    [job_id] = box.enter("a", not_before=LATER)
    watch = launcher.watch([job_id])
    assert next(watch).id == job_id
    watch.close()  # type: ignore[attr-defined]
    wait_until(lambda: readers() == 0, description="the reader has ended")


def test_who_waits_hears_that_redis_is_out_of_reach_and_may_wait_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_checks(monkeypatch)
    ids = box.enter("a", "b", not_before=LATER)
    with Cutter(box.url) as network:
        settings = load({"LAUNCHQ_REDIS_URL": network.url, "LAUNCHQ_PREFIX": box.prefix})
        with Launcher(settings) as launcher:
            with waiting(launcher, ids, timeout=None) as waits:
                network.cut()
                for wait in waits:
                    with pytest.raises(LedgerError, match="Redis"):
                        wait.result(timeout=20)
            with pytest.raises(LedgerError):
                launcher.wait(ids)
            network.heal()
            with waiting(launcher, ids) as waits:
                box.cancel(*ids)
                assert {wait.result().state for wait in waits} == {State.CANCELLED}


FORKED = """
import os, sys, threading
from launchq import Launcher
launcher = Launcher()
parents, childs = sys.argv[1:]
watch = launcher.watch([parents], timeout=20)
next(watch)
child = os.fork()
if child == 0:
    watch = launcher.watch([childs], timeout=20)
    next(watch)
    print("child", flush=True)
    os._exit([job.state for job in watch] != ["cancelled"])
print("parent", flush=True)
assert [job.state for job in watch] == ["cancelled"]
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_has_a_reader_of_its_own(box: Box) -> None:
    ids = box.enter("a", "b", not_before=LATER)
    variables = {"LAUNCHQ_REDIS_URL": box.url, "LAUNCHQ_PREFIX": box.prefix}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, *ids]
    program = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True)
    with program:
        assert program.stdout is not None
        assert {program.stdout.readline().strip() for _ in range(2)} == {"parent", "child"}
        box.cancel(*ids)
        assert program.wait(timeout=20) == 0
