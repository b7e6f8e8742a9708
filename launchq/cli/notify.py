"""`notify`: are notifications taken where they are to go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import click

from config import Settings, SettingsError, load
from launchq.cli.options import json_option
from launchq.cli.output import Exit, print_json
from tasks.webhooks import Outcome


@click.group("notify")
def notify_command() -> None:
    """Notifications: messages to Feishu, DingTalk, WeCom, Slack or a program of yours.

    \b
    Example:
      launchq notify test
    """


@notify_command.command("test")
@json_option
def notify_test_command(as_json: bool) -> Exit:
    """Send a test message to every address in LAUNCHQ_NOTIFY, now and from here, and show what came of each.

    Exit code 1 where one was not taken. It neither reads nor writes the ledger.

    \b
    Example:
      launchq notify test
    """
    settings = load()
    if not settings.notify_addresses:
        raise SettingsError("LAUNCHQ_NOTIFY: there is no address to send to, such as feishu:https://...")
    outcomes = asyncio.run(_send(settings))
    if as_json:
        print_json(
            [
                {"address": mark, "sent": outcome.what == "sent", "message": outcome.text or None}
                for mark, outcome in outcomes
            ]
        )
    else:
        for mark, outcome in outcomes:
            click.echo(f"{mark}: " + ("sent" if outcome.what == "sent" else f"not sent: {outcome.text}"))
    return Exit.DONE if all(outcome.what == "sent" for _, outcome in outcomes) else Exit.UNEXPECTED


async def _send(settings: Settings) -> list[tuple[str, Outcome]]:
    from tasks.notices import trial
    from worker.notices import Sender

    notice = trial(datetime.now(UTC))
    async with Sender(settings.prefix) as sender:
        addresses = settings.notify_addresses
        outcomes = await asyncio.gather(
            *(sender.send(address, [notice], uuid4().hex) for address in addresses)
        )
    return [(address.mark, outcome) for address, outcome in zip(addresses, outcomes, strict=True)]
