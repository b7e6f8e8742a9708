"""The Celery app: one task that runs a shift, one that enters a job, and the pulse in every worker.

Importing this loads neither the HTTP client nor the settings: both wait until they are needed.
"""

from __future__ import annotations

import gc
import logging
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import Reject
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    celeryd_init,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from config import Settings, SettingsError, load, traces
from config.celery_settings import celery_settings, submit_queues, wake_up_queue
from config.logs import quiet_libraries, write_json
from ledger import version
from worker import stop

if TYPE_CHECKING:
    from ledger import Ledger
    from worker.shift import Shifts

SHIFT_TASK = "launchq.shift"
SUBMIT_TASK = "launchq.submit"
REQUEST = "worker.messages:Request"

logger = logging.getLogger("launchq.worker")


def make_app(settings: Settings | None = None) -> Celery:
    """A Celery app for these settings; without any, for this process' own, read when first needed."""
    made = Celery("launchq")
    made.add_defaults(lambda: celery_settings(settings or settings_of_process()))
    return made


@cache
def settings_of_process() -> Settings:
    """The settings of this process, read once."""
    return load()


@cache
def ledger_of_process() -> Ledger:
    """This process' ledger. A forked child makes one of its own: the main process asks for none before it forks."""
    from ledger import Ledger

    return Ledger.of(settings_of_process())


@cache
def shifts_of_process() -> Shifts:
    """The shifts of this process, a child of the worker."""
    from worker.shift import Shifts

    return Shifts(settings_of_process())


def send_wake_up(through: Celery, settings: Settings) -> None:
    """Tell the workers that something is due. Raises what the broker raises: the caller knows how much it matters."""
    once_more = {"max_retries": 1, "interval_start": 0.1}
    queue = wake_up_queue(settings, version.LEDGER_VERSION)
    through.send_task(SHIFT_TASK, queue=queue, retry=True, retry_policy=once_more)


def wake_up() -> None:
    """`send_wake_up` for this process' own workers."""
    send_wake_up(app, settings_of_process())


def messages_wait() -> bool:
    """Whether the broker holds jobs of producers that only have Celery. Raises what the broker raises."""
    with app.connection_for_read() as connection:
        channel = connection.channel()  # which connects once, and does not try again and again
        for queue in submit_queues(settings_of_process()):
            # A queue that was never used need not exist; asking for it must not create it.
            with suppress(connection.channel_errors):
                if channel.queue_declare(queue, passive=True).message_count:
                    return True
    return False


app = make_app()


@app.task(name=SHIFT_TASK, Request=REQUEST, acks_late=False)
def shift() -> None:
    """Claim due jobs and submit them until nothing is due."""
    from worker.shift import Surroundings

    around = Surroundings(stop.asked, wake_up=wake_up, messages_wait=messages_wait)
    with stop.patience():
        shifts_of_process().run(around)


@app.task(name=SUBMIT_TASK, Request=REQUEST, bind=True, acks_late=True, reject_on_worker_lost=True)
def submit(
    self: Any,
    body: Any = None,
    *surplus: Any,
    key: Any = None,
    maxAttempts: Any = None,  # noqa: N803 (names on the wire are the API's camelCase)
    uniqueNames: Any = False,  # noqa: N803
    until: Any = None,
    waitForCapacity: Any = None,  # noqa: N803
    allowUnknownFields: Any = False,  # noqa: N803
    **unknown: Any,
) -> None:
    """Enter one job; its id is this task's id. What cannot be launched becomes a job that failed, and says why."""
    from tasks.errors import LedgerError
    from worker.doorway import enter

    try:
        wake = enter(
            ledger_of_process(),
            self.request.id,
            body,
            key=key,
            policy={
                "maxAttempts": maxAttempts,
                "uniqueNames": uniqueNames,
                "until": until,
                "waitForCapacity": waitForCapacity,
            },
            allow_unknown=allowUnknownFields is True,
            strange=[*unknown, *(["a second argument"] if surplus else [])],
        )
    except LedgerError as error:
        logger.warning("job %s goes back to the broker: %s", self.request.id, error)
        raise Reject(error, requeue=True) from error
    if wake:
        wake_up()


@celeryd_init.connect
def _choose_queues(options: dict[str, Any] | None = None, **_: Any) -> None:
    # Chosen here and not in the settings, so that a producer's app declares no queue that it does not use.
    if not (options or {}).get("queues"):
        settings = settings_of_process()
        wake_ups = wake_up_queue(settings, version.LEDGER_VERSION)
        app.select_queues([*submit_queues(settings), wake_ups])


@worker_init.connect
def _get_ready(**_: Any) -> None:
    from kombu.transport.redis import Transport

    import worker.shift  # noqa: F401 (loaded once here, before the children are forked, not in each of them)
    from worker.messages import Channel

    quiet_libraries()
    try:
        traces.must_be_there(settings_of_process().traces)
    except SettingsError as error:
        raise SystemExit(f"launchq: this worker does not start: {error}") from None
    _refuse_an_evicting_redis()
    # When the broker's connection breaks while a message is unacknowledged, kombu 5.7 trips over its own closed
    # connection: an AttributeError that ends the whole worker. Counted as what it means, a lost connection, Celery
    # connects again, and the message comes back by the visibility timeout.
    Transport.connection_errors = (*Transport.connection_errors, AttributeError)
    Transport.Channel = Channel
    # What is there by now is never looked at again by the collector, which would write to it: the children go on sharing it.
    gc.collect()
    gc.freeze()


def _refuse_an_evicting_redis() -> None:
    """However the worker was started. One that is out of reach is waited for, and looked at by the pulse."""
    from ledger import Ledger
    from tasks.errors import LedgerError

    settings = settings_of_process()
    ledger = Ledger(
        settings.redis_url, settings.prefix
    )  # not the process' own: no connection crosses the fork
    try:
        why = ledger.evicts()
    except LedgerError:
        why = ""
    finally:
        ledger.close()
    if why:
        raise SystemExit(f"launchq: this worker does not start: {why}")


@after_setup_logger.connect
@after_setup_task_logger.connect
def _write_json(logger: logging.Logger, **_: Any) -> None:
    if settings_of_process().log_format == "json":
        write_json(logger)


@worker_process_init.connect
def _begin_traces(**_: Any) -> None:
    # In each child, after the fork: what sends them is a thread.
    traces.begin(settings_of_process().traces, "launchq-worker")


@worker_process_shutdown.connect
def _end_traces(**_: Any) -> None:
    traces.flush()


worker_process_init.connect(stop.note_parent)
worker_shutting_down.connect(stop.ask)


@worker_ready.connect
def _start_pulse(**_: Any) -> None:
    from worker.notices import Notices
    from worker.pulse import Pulse
    from worker.stock import Stock
    from worker.timetable import Timetable

    Pulse.start_one(settings_of_process(), wake_up=wake_up)
    Notices.start_one(settings_of_process())
    Timetable.start_one(settings_of_process(), wake_up=wake_up)
    if settings_of_process().stock == "on":
        Stock.start_one(settings_of_process())


@worker_shutdown.connect
def _stop_pulse(**_: Any) -> None:
    from worker.notices import Notices
    from worker.pulse import Pulse
    from worker.stock import Stock
    from worker.timetable import Timetable

    Stock.stop_one()
    Notices.stop_one()
    Timetable.stop_one()
    Pulse.stop_one()
