"""How Celery reads messages here: what is in them, which may be secret, stays out of logs, events and `inspect`.

Celery itself logs the whole message where it can do nothing with it, and shows what producers wrote about arguments
(`argsrepr`, `kwargsrepr`) in events and to whoever asks a worker what it does.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.request import Request as CeleryRequest
from kombu.transport import redis as redis_transport

logger = logging.getLogger("launchq.messages")

HIDDEN = "..."
"""What is shown in place of arguments."""


class Consumer(CeleryConsumer):
    """Celery's consumer, which says of a message that is no good only what and how large it is, and throws it away."""

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002
        """It is no task."""
        self._throw_away(message, "it is no task")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """It is a task that no worker of ours has."""
        self._throw_away(message, "no such task is known here")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ARG002
        """It does not keep to Celery's protocol."""
        self._throw_away(message, f"it is not as Celery's protocol wants it ({type(exc).__name__})")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Its body cannot be read."""
        self._throw_away(message, f"its body cannot be read ({type(exc).__name__})")

    def _throw_away(self, message: Any, why: str) -> None:
        headers = message.headers if isinstance(message.headers, dict) else {}
        logger.error(
            "a message was thrown away: %s; task %.100r, id %.100r, %d bytes",
            why,
            headers.get("task"),
            headers.get("id"),
            len(message.body or ""),
        )
        message.reject_log_error(logger, self.connection_errors)


class Request(CeleryRequest):
    """Celery's request, which shows no argument to anybody: not in events, not to `inspect`, not to log handlers."""

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self._argsrepr = self._kwargsrepr = HIDDEN
        self._request_dict.update(argsrepr=HIDDEN, kwargsrepr=HIDDEN)

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002
        """What `inspect` shows."""
        shown: dict[str, Any] = super().info(safe=True)
        return shown


class Channel(redis_transport.Channel):
    """kombu's channel, which survives an element of a queue that is no JSON object: it would end the whole worker."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError) as error:
            logger.error("something in a queue is no message (%s), and was thrown away", type(error).__name__)
            raise Empty from None
