"""`doctor`: is everything in place, and what could be lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import click

from config import Settings, load
from config.settings import unknown_names, without_password
from launchq.cli.options import json_option
from launchq.cli.output import WORKER_SILENCE, Exit, account_line, ledger_line, local, print_json
from launchq.launcher import Launcher
from ledger.calls import Account
from ledger.door import EVICTS, NO_EVICTION, AtRest
from ledger.durability import Durability
from ledger.notices import Delivery, deliveries
from tasks.errors import LedgerError

CLOCKS_APART = 5.0
"""Seconds by which this machine's clock may differ from Redis' before it is worth a word."""

BROKER_PATIENCE = 2.0
"""Seconds for a broker of its own to answer; a silent one is asked a few times."""

_SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str


@click.command("doctor")
@click.option(
    "--workers-only",
    is_flag=True,
    help="Only whether Redis answers and a worker of this machine is alive (for health checks).",
)
@json_option
def doctor_command(workers_only: bool, as_json: bool) -> Exit:
    """Look whether everything is in place: settings, Redis, workers, clock, token, the cloud's API.

    Exit code 1 where something fails; what only deserves attention is a warning.

    \b
    Example:
      launchq doctor
    """
    settings = load()
    checks = [
        check
        for check in _all(settings, workers_only=workers_only)
        if not workers_only or check.name in {"redis", "workers"}
    ]
    failed = any(check.status == "fail" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [vars(check) for check in checks]})
    else:
        for check in checks:
            click.echo(f"{_SIGNS[check.status]}  {check.name}: {check.detail}")
    return Exit.UNEXPECTED if failed else Exit.DONE


def _all(settings: Settings, *, workers_only: bool) -> Iterator[Check]:
    unknown = unknown_names()
    if unknown:
        yield Check("settings", "warn", f"not known, so without effect: {', '.join(unknown)}")
    else:
        yield Check("settings", "ok", "all known")
    with Launcher(settings) as launcher:
        try:
            server = launcher.ledger.server()
            account = launcher.account()
            at_rest = launcher.ledger.at_rest()
            known = launcher.ledger.run(deliveries())
        except LedgerError as error:
            yield Check("redis", "fail", f"{without_password(settings.redis_url)} does not answer: {error}")
        else:
            yield from _redis(settings, server)
            yield from _account(account, here_only=workers_only)
            yield _secrets(at_rest, has_key=settings.secret_key is not None)
            yield from _notifications(settings, known, account.now)
    if not workers_only:
        if settings.broker != settings.redis_url:
            yield _broker(settings)
        yield asyncio.run(_api(settings))


def _redis(settings: Settings, server: dict[str, Any]) -> Iterator[Check]:
    version = server.get("valkey_version") or server.get("redis_version", "?")
    yield Check(
        "redis",
        "ok",
        f"{without_password(settings.redis_url)}, version {version}, answers in {server['latency'] * 1000:.1f} ms",
    )
    durability = Durability.of(server, server.get("appendfsync"))
    yield Check("durability", "ok" if durability is Durability.ALWAYS else "warn", durability.value)
    policy = server.get("maxmemory_policy")
    if policy == NO_EVICTION:
        yield Check("eviction", "ok", "noeviction")
    elif policy is None:
        yield Check("eviction", "warn", "unknown: this Redis does not tell its maxmemory-policy")
    else:
        yield Check("eviction", "fail", f"{EVICTS.format(policy=policy)}; workers refuse to start")


def _broker(settings: Settings) -> Check:
    """A broker of its own: without it no job is lost, and none is launched."""
    from worker.app import make_app

    where = ";".join(without_password(one) for one in settings.broker.split(";"))
    app = make_app(settings)
    patience = {"socket_timeout": BROKER_PATIENCE, "socket_connect_timeout": BROKER_PATIENCE}
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, **patience}
    try:
        with app.connection_for_read(connect_timeout=BROKER_PATIENCE) as connection:
            connection.channel()  # which connects once
    except Exception as error:  # noqa: BLE001 (each broker has errors of its own)
        text = f"{where} does not answer, so nobody tells the workers to launch what is due: {error}"
        return Check("broker", "fail", text)
    return Check("broker", "ok", f"{where} answers")


def _account(account: Account, *, here_only: bool) -> Iterator[Check]:
    apart = abs((datetime.now(UTC) - account.now).total_seconds())
    if apart > CLOCKS_APART:
        yield Check("clock", "warn", f"{apart:.0f} s apart from Redis' clock, which decides what is due")
    else:
        yield Check("clock", "ok", "agrees with Redis' clock, which decides what is due")
    if newer := ledger_line(account):
        yield Check("version", "fail", f"{newer}; workers of this one launch nothing")
    else:
        yield Check("version", "ok", "no newer launchq uses this ledger")
    # With several workers, the health of one container is not told by another that lives.
    mine = f"{socket.gethostname()}:" if here_only else ""
    workers = {name: age for name, age in account.workers.items() if name.startswith(mine)}
    alive = [name for name, age in workers.items() if age < WORKER_SILENCE]
    lost = len(workers) - len(alive)
    detail = f"{len(alive)} alive" + (f", {lost} not heard of lately" if lost else "")
    yield Check(
        "workers",
        "ok" if alive else "fail",
        detail if alive else "none alive; start one with `launchq worker`",
    )
    yield Check(
        "account",
        "ok" if account.state == "open" else "fail" if account.state == "blocked" else "warn",
        account_line(account),
    )
    token = account.token
    if token["present"]:
        gone = token["expiresAt"] is not None and token["expiresAt"] <= account.now
        yield Check(
            "token",
            "warn" if gone else "ok",
            f"from {token['source']}, {'ended' if gone else 'ends'} {local(token['expiresAt'])}",
        )
    else:
        yield Check(
            "token",
            "warn",
            "none yet; workers log in when user name and password are set, otherwise use `launchq auth set-token`",
        )


def _secrets(at_rest: AtRest, *, has_key: bool) -> Check:
    if at_rest.locked:
        why = (
            "with another key than LAUNCHQ_SECRET_KEY"
            if has_key
            else "and LAUNCHQ_SECRET_KEY is not set here"
        )
        return Check(
            "secrets", "fail", f"{at_rest.locked} looked at are sealed {why}: this process cannot open them"
        )
    if not has_key:
        clear = "in the clear in Redis: set LAUNCHQ_SECRET_KEY, `launchq auth new-key` makes one"
        return Check("secrets", "warn", clear)
    if at_rest.plain:
        left = f"sealed from now on, but {at_rest.plain} looked at were entered before, and are in the clear"
        return Check("secrets", "warn", left)
    return Check("secrets", "ok", f"sealed in Redis; {at_rest.opened} looked at, all can be opened here")


def _notifications(settings: Settings, known: Sequence[Delivery], now: datetime) -> Iterator[Check]:
    """One line for each address that workers have; `launchq notify test` asks the services themselves."""
    for mark in {address.mark for address in settings.notify_addresses} - {one.mark for one in known}:
        yield Check("notifications", "warn", f"{mark}: no worker has this address; start one with it")
    for one in known:
        alive = one.heard is not None and (now - one.heard).total_seconds() < WORKER_SILENCE
        wrong = one.error_at is not None and (one.sent_at is None or one.error_at >= one.sent_at)
        said = [f"last sent {local(one.sent_at)}" if one.sent_at else "nothing sent yet"]
        said += [f"{one.held} more gathered"] if one.held else []
        said += [f"one under way, {one.tries} tries"] if one.tries else []
        said += [f"{one.lost} given up"] if one.lost else []
        said += [f"last error {local(one.error_at)}: {one.error}"] if one.error_at else []
        said += [] if alive else ["no worker with this address is alive"]
        yield Check(
            "notifications", "ok" if alive and not wrong else "warn", f"{one.mark}: {', '.join(said)}"
        )


async def _api(settings: Settings) -> Check:
    from tasks.answers import Answer
    from worker.cloud import Cloud

    async with Cloud(settings.api_url, timeout=min(settings.request_timeout, 10.0)) as cloud:
        reply = await cloud.reachable()
    if isinstance(reply, Answer):
        return Check("api", "ok", f"{settings.api_url} answers")
    return Check("api", "fail", f"{settings.api_url}: {reply.reason}")
