"""The same job as most teams would write it with Celery alone, for comparison. Nothing of launchq is used here.

One task a job, as Celery's manual advises for tasks that must not get lost: `acks_late`, so that a message is
acknowledged only after its task has ended; `autoretry_for` with exponential backoff and jitter for whatever the HTTP client
reports; a result for each task. It is meant to be a fair opponent:

- A thread for each call (`--pool threads`): the task only waits for the network, and a prefork child for each of over
  a hundred calls in flight would not fit on a small machine. So as many calls are in flight as launchq has.
- `visibility_timeout` 30 s, looked at every 5 s: by default, a dead worker's messages are left alone for an hour, and then looked
  for about every 100 s. It outlasts the longest task (login and create, 2 s each) and the longest countdown (8 s) together, so
  no message is delivered again while its task lives.
- One token for all threads of a process, made again before it ends and when the API refuses it.
- One HTTP client for each process, with a timeout, and connections that are used again.
- An answer that refuses the request is an error at once. Retries that would be of no use are not made.

What it does not know is what no retry knows: whether the call that it repeats bought something.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import httpx
from celery import Celery

VISIBILITY_TIMEOUT = 30

app = Celery("plain_celery", broker=os.environ["PLAIN_REDIS_URL"], backend=os.environ["PLAIN_REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_keepalive": True,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    result_extended=False,
)


class NotLoggedInError(Exception):
    """The API does not take the token: make another and try again."""


class RejectedError(Exception):
    """The API refuses the request: trying again is of no use."""


class Session:
    """The HTTP client and the token of one process, shared by its threads."""

    def __init__(self) -> None:
        timeout = float(os.environ["PLAIN_REQUEST_TIMEOUT"])
        self.http = httpx.Client(
            base_url=os.environ["PLAIN_API_URL"], timeout=timeout, limits=httpx.Limits(max_connections=None)
        )
        self._lock = threading.Lock()
        self._token = ""
        self._good_until = 0.0

    def token(self) -> str:
        """A token that is still good for a moment."""
        with self._lock:
            if time.monotonic() > self._good_until:
                self._log_in()
            return self._token

    def forget(self, token: str) -> None:
        """The API has refused this token."""
        with self._lock:
            if token == self._token:
                self._good_until = 0.0

    def _log_in(self) -> None:
        account = {"username": os.environ["PLAIN_USERNAME"], "password": os.environ["PLAIN_PASSWORD"]}
        began = time.monotonic()
        response = self.http.post("/user/login", json=account)
        response.raise_for_status()
        answer = response.json()
        self._token = answer["accessToken"]
        self._good_until = began + 0.9 * float(answer["accessExpire"])


session = Session()


@app.task(
    name="create_instance",
    autoretry_for=(httpx.HTTPError, NotLoggedInError),
    retry_backoff=True,
    retry_backoff_max=8,
    retry_jitter=True,
    max_retries=50,
)
def create_instance(body: dict[str, Any]) -> str:
    """Create one instance; its id."""
    token = session.token()
    response = session.http.post("/instance/create", json=body, headers={"Cookie": f"AccessToken={token}"})
    response.raise_for_status()
    answer = response.json()
    if answer.get("code") == -1:
        session.forget(token)
        raise NotLoggedInError
    if "instanceId" not in answer:
        raise RejectedError(str(answer.get("message")))
    instance_id: str = answer["instanceId"]
    return instance_id
