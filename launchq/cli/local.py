"""`up`, `worker` and `sandbox`: running things on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from launchq.cli.output import WORKER_SILENCE, Exit, note
from tasks.errors import RefusedError

if TYPE_CHECKING:
    from config import Settings
    from sandbox.process import SandboxProcess
    from sandbox.redis_server import RedisServer

LEVELS = ("debug", "info", "warning", "error")
STOP_MARGIN = 10.0
"""Seconds beyond the request timeout that a worker gets to stop before it is killed."""

processes_option = click.option(
    "--processes", type=click.IntRange(1, 256), metavar="N", help="Child processes; default: one a core."
)
board_option = click.option(
    "--board",
    "with_board",
    is_flag=True,
    help="Start the board too, and say where it is (see `launchq board`).",
)
level_option = click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="How much to log."
)


@dataclass(frozen=True)
class World:
    """What runs on this machine: its Redis, the environment that reaches it, the worker, and the simulated cloud."""

    redis_url: str = field(repr=False)
    environment: Mapping[str, str]
    worker: subprocess.Popen[bytes]
    sandbox: SandboxProcess | None


@click.command("worker")
@processes_option
@level_option
def worker_command(processes: int | None, log_level: str) -> None:
    """Run one worker until SIGTERM or Ctrl-C; it then finishes the calls that are in flight.

    The same as `celery -A worker worker`; any number of workers may run, on any number of machines.

    \b
    Example:
      launchq worker --processes 2
    """
    from config import load

    settings = load()  # what is wrong with the settings is said here, in plain words
    from worker.app import app

    arguments = [
        "worker",
        "--loglevel",
        log_level,
        "--without-gossip",
        "--without-mingle",
        "--hostname",
        f"launchq-{os.getpid()}@%h",
    ]
    if settings.log_format == "json":
        arguments.insert(0, "--quiet")  # without Celery's banner, which is no log
    if processes:
        arguments += ["--concurrency", str(processes)]
    app.worker_main(arguments)


@click.command("sandbox", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sandbox_command(arguments: tuple[str, ...]) -> int:
    """Run the simulated cloud alone, with faults on request (see `launchq sandbox --help`).

    \b
    Example:
      launchq sandbox --port 8080 --fault expired --fault close-after=0.1
    """
    from sandbox.command import main

    return main(arguments)


@click.command("up")
@click.option(
    "--sandbox", "with_sandbox", is_flag=True, help="Start a simulated cloud too, and launch on it."
)
@board_option
@processes_option
@level_option
def up_command(with_sandbox: bool, with_board: bool, processes: int | None, log_level: str) -> Exit:
    """Run everything on this machine until Ctrl-C: a throwaway Redis (unless LAUNCHQ_REDIS_URL is set) and a worker.

    \b
    Example:
      launchq up --sandbox
    """
    from config import load

    with world(
        with_sandbox=with_sandbox, with_board=with_board, processes=processes, log_level=log_level
    ) as running:
        note("Everything runs. In another terminal:")
        if running.redis_url != load().redis_url:
            note(f"  export LAUNCHQ_REDIS_URL={running.redis_url}")
        note(
            "  launchq submit body.json --wait\nCtrl-C stops it all. What a throwaway Redis held is gone then."
        )
        try:
            code = running.worker.wait()
        except KeyboardInterrupt:
            note("Stopping.")
            return Exit.DONE
    note(f"launchq: the worker ended by itself, with exit code {code}")
    return Exit.UNEXPECTED


@contextmanager
def world(
    *,
    with_sandbox: bool,
    processes: int | None,
    log_level: str,
    fresh: bool = False,
    log_file: str | None = None,
    verify_delays: str = "",
    with_board: bool = False,
    rate_limit: str = "",
) -> Iterator[World]:
    """A Redis unless one is named (`fresh`: in any case), a worker, with `with_sandbox` a simulated cloud, and with
    `with_board` the board, which says where it is."""
    from config import load
    from config.settings import is_given, without_password
    from sandbox.redis_server import RedisNotFoundError, RedisServer

    signal.signal(signal.SIGTERM, _as_interrupt)  # what was started is stopped, whoever says so
    environment = dict(os.environ)
    settings = load()
    with ExitStack() as stack:
        if fresh or not is_given("redis_url"):
            try:
                redis = stack.enter_context(_redis_on_a_good_port(RedisServer, any_port=fresh))
            except RedisNotFoundError as error:
                raise click.ClickException(str(error)) from None
            redis_url = redis.url
            _set(environment, REDIS_URL=redis_url, BROKER_URL="")
        else:
            # The worker finds it where we did: a URL that came from a file, for its password, stays out of the environment.
            redis_url = settings.redis_url
            if with_sandbox:
                _refuse_a_ledger_in_use(settings)
        note(f"Redis: {without_password(redis_url)}")
        if verify_delays:
            _set(environment, VERIFY_DELAYS=verify_delays)
        if rate_limit:
            _set(environment, RATE_LIMIT=rate_limit)
        cloud = None
        if with_sandbox:
            from sandbox.options import CloudOptions
            from sandbox.process import SandboxProcess

            cloud = stack.enter_context(SandboxProcess(CloudOptions()))
            _set(
                environment,
                API_URL=cloud.api_url,
                USERNAME="demo",
                PASSWORD="demo",  # noqa: S106 (the simulated cloud's)
                ACCESS_TOKEN="",
                API_KEY="",
            )
            note(f"simulated cloud: {cloud.api_url}")
        arguments = [sys.executable, "-m", "launchq", "worker", "--log-level", log_level]
        if processes:
            arguments += ["--processes", str(processes)]
        log = stack.enter_context(open(log_file, "wb")) if log_file else None
        # A session of its own: Ctrl-C at the terminal reaches us, and we stop things in their order.
        worker = subprocess.Popen(arguments, env=environment, start_new_session=True, stdout=log, stderr=log)
        stack.callback(_stop, worker, settings.request_timeout + STOP_MARGIN)
        if with_board:
            stack.callback(_stop, _start_board(environment), STOP_MARGIN)
        yield World(redis_url, environment, worker, cloud)


def _start_board(environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The board on its usual port, or on any where that is taken."""
    from launchq.cli.board import PORT, require_extra

    require_extra()
    port = PORT if _is_free(PORT) else 0
    arguments = [sys.executable, "-m", "launchq", "board", "--port", str(port)]
    return subprocess.Popen(arguments, env=environment, start_new_session=True)


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _refuse_a_ledger_in_use(settings: Settings) -> None:
    """The worker of a simulated cloud would take real jobs, and say of each that it was launched."""
    from launchq.launcher import Launcher
    from tasks.states import ENDS

    with Launcher(settings) as launcher:
        account = launcher.account()
    waiting = sum(count for state, count in account.counts.items() if state not in ENDS)
    alive = sum(age < WORKER_SILENCE for age in account.workers.values())
    if waiting or alive:
        raise RefusedError(
            f"this ledger is in use ({waiting} jobs under way, {alive} workers alive), and a simulated cloud would take its "
            "jobs without launching anything; set LAUNCHQ_PREFIX to another name, or unset LAUNCHQ_REDIS_URL"
        )


def _redis_on_a_good_port(server: type[RedisServer], *, any_port: bool) -> RedisServer:
    """On Redis' usual port where that is free, so that other terminals find it without being told."""
    return server(port=6379) if not any_port and _is_free(6379) else server()


def _set(environment: dict[str, str], **settings: str) -> None:
    """Settings that no file may overrule: an empty one is none, whatever .env or a file of secrets says."""
    for name, value in settings.items():
        environment[f"LAUNCHQ_{name}"] = value
        environment.pop(f"LAUNCHQ_{name}_FILE", None)


def _stop(worker: subprocess.Popen[bytes], timeout: float) -> None:
    worker.terminate()
    try:
        worker.wait(timeout)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
