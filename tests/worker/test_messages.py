"""Messages that Celery can do nothing with, and what it tells about all others: nothing that was in them."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu import Producer, Queue

from harness import Worker, World, body, wait_until
from tasks.states import State

SENTINEL = "sentinel-c0ffee"
SECRET_BODY = body(
    "messages",
    instanceConfiguration={
        "enableCommonData": False,
        "enableDocker": False,
        "initScript": f"echo {SENTINEL}",
    },
)


@pytest.fixture
def app(world: World) -> Iterator[Celery]:
    """A program that only has Celery."""
    with Celery(broker=world.redis.url) as made:
        yield made


def talkative(world: World) -> Worker:
    """A worker that logs all it can, and sends events."""
    names = ["-m", "celery", "-A", "worker", "worker", "-E", "-l", "debug", "-c", "1", "--without-mingle"]
    return world.worker(command=names)


def alive(world: World, app: Celery) -> None:
    """The workers still take messages."""
    task = app.send_task("launchq.submit", [body("alive")], queue=world.prefix)
    wait_until(lambda: task.id in world.logs(), description="a worker takes the message")
    wait_until(
        lambda: (
            world.launcher.ledger.redis.hget(world.launcher.ledger.keys.job(task.id), "state") == "succeeded"
        ),
        description="the job is launched",
    )


def unknown_task(world: World, app: Celery) -> str:
    app.send_task("no.such.task", [SENTINEL], {"script": SENTINEL}, queue=world.prefix)
    return "'no.such.task'"


def no_task(world: World, app: Celery) -> str:
    publish(world, app, json.dumps({"script": SENTINEL}), headers={})
    return "it is no task"


def invalid_task(world: World, app: Celery) -> str:
    old = {"task": "launchq.submit", "id": str(uuid.uuid4()), "args": [], "kwargs": [SENTINEL]}
    publish(world, app, json.dumps(old), headers={})
    return "InvalidTaskError"


def unreadable_body(world: World, app: Celery) -> str:
    headers = {"task": "launchq.submit", "id": str(uuid.uuid4()), "argsrepr": SENTINEL}
    publish(world, app, f"[[{SENTINEL}", headers=headers)
    return headers["id"]


def pickled(world: World, app: Celery) -> str:
    headers = {"task": "launchq.submit", "id": str(uuid.uuid4()), "argsrepr": SENTINEL}
    publish(world, app, SENTINEL, headers=headers, content_type="application/x-python-serialize")
    return headers["id"]


def publish(
    world: World, app: Celery, text: str, *, headers: dict[str, Any], content_type: str = "application/json"
) -> None:
    with app.connection_for_write() as connection:
        Producer(connection.channel()).publish(
            text,
            routing_key=world.prefix,
            declare=[Queue(world.prefix, routing_key=world.prefix)],
            headers=headers,
            content_type=content_type,
            content_encoding="utf-8",
        )


@pytest.mark.parametrize("send", [unknown_task, no_task, invalid_task, unreadable_body, pickled])
def test_a_message_that_is_no_good_is_thrown_away_without_showing_what_is_in_it(
    world: World, app: Celery, send: Any
) -> None:
    worker = talkative(world)
    sign = send(world, app)
    wait_until(lambda: "a message was thrown away" in worker.log(), description="the message is thrown away")
    [line] = [line for line in worker.log().splitlines() if "a message was thrown away" in line]
    assert sign in line
    alive(world, app)
    assert SENTINEL not in worker.log()
    assert not worker.ended


@pytest.mark.parametrize(
    "element",
    [f"{SENTINEL}, which is no JSON", f'"{SENTINEL}"', f'["{SENTINEL}"]', f'{{"a": "{SENTINEL}"}}', "\xff"],
)
def test_an_element_of_a_queue_that_is_no_message_ends_no_worker(
    world: World, app: Celery, element: str
) -> None:
    worker = talkative(world)
    world.launcher.ledger.redis.lpush(world.prefix, element.encode("latin-1"))
    wait_until(lambda: not world.launcher.ledger.redis.llen(world.prefix), description="the element is taken")
    alive(world, app)
    assert not worker.ended
    assert SENTINEL not in worker.log()


def test_arguments_are_neither_in_logs_nor_in_events_nor_shown_by_inspect(world: World, app: Celery) -> None:
    worker = talkative(world)
    seen: list[dict[str, Any]] = []
    enough = threading.Event()

    def listen() -> None:
        with Celery(broker=world.redis.url) as listener, listener.connection_for_read() as connection:
            receiver = listener.events.Receiver(connection, handlers={"*": seen.append})
            for _ in receiver.itercapture(limit=None, timeout=None, wakeup=True):
                if enough.is_set():
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    wait_until(lambda: seen, description="events arrive")
    task = app.send_task("launchq.submit", [SECRET_BODY], {"key": "k"}, queue=world.prefix)
    held = app.send_task("launchq.submit", [SECRET_BODY], queue=world.prefix, countdown=300)
    wait_until(
        lambda: any(event["type"] == "task-received" and event["uuid"] == held.id for event in seen),
        description="both messages are told in events",
    )
    world.wait_for(task.id, State.SUCCEEDED)
    inspect = app.control.inspect(timeout=3)
    shown = {name: getattr(inspect, name)() for name in ("scheduled", "active", "reserved", "conf", "stats")}
    assert held.id in json.dumps(shown["scheduled"])
    assert SENTINEL not in json.dumps(shown)
    wait_until(
        lambda: any(event["type"] == "task-succeeded" and event["uuid"] == task.id for event in seen),
        description="the end is told in events",
    )
    enough.set()
    thread.join(10)
    assert SENTINEL not in json.dumps(seen, default=str)
    assert SENTINEL not in worker.log()
    assert task.id in worker.log()
    # Celery's line with the message itself; it is cut off, so only a shorter message would show its arguments.
    assert "TaskPool: Apply" not in worker.log()
