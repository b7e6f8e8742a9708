"""Celery's settings, all derived from ours. A message is only a wake-up call, so nothing here keeps one for long."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from config.settings import Settings


def wake_up_queue(settings: Settings, ledger_version: int) -> str:
    """The queue of one ledger's wake-ups: two prefixes on one broker never wake each other's workers.

    Nor do two versions on one ledger: workers of the older one, which launch nothing more, would take most of them.
    """
    return f"{settings.prefix}.wake.{ledger_version}"


def submit_queues(settings: Settings) -> list[str]:
    """The queues on which producers that only have Celery may send jobs.

    Those that name no queue send to Celery's default one, `celery`; the workers of the default prefix listen there too.
    """
    return [settings.prefix, "celery"] if settings.prefix == "launchq" else [settings.prefix]


def broker_url(settings: Settings) -> str:
    """The broker's URL, as kombu has to see it: one that says nothing of certificates means "any will do" to kombu, and
    "only good ones" to redis-py and to us."""
    parts = urlsplit(settings.broker)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(parts.query):
        return settings.broker
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, "ssl_cert_reqs=required")))))


def celery_settings(settings: Settings) -> dict[str, Any]:
    """What the Celery app is configured with."""
    transport: dict[str, Any] = {}
    if settings.broker.startswith(("redis", "rediss")):
        # kombu waits for messages with a blocking read of 1 s; the timeout must be well above it.
        transport = {
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 30,
            "retry_on_timeout": True,
            # Seconds after which a message whose worker died is delivered again. Entering a job takes milliseconds,
            # and doing it twice enters it once.
            "visibility_timeout": 60,
        }
    return {
        "broker_url": broker_url(settings),
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": settings.prefix,
        "worker_consumer": "worker.messages:Consumer",
        # A busy worker takes no messages into reserve: an idle one shall get them.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": settings.broker.startswith(("redis", "rediss", "unix", "sentinel")),
        # A shift keeps its calls when the broker goes away: the broker has nothing to do with them.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_proc_alive_timeout": 30.0,
    }
