"""`notify`: are notifications taken where they are to go."""

from __future__ import annotations

import asyncio

import click

from config import load
from launchq.cli.options import json_option
from launchq.cli.output import Exit, print_json


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
    from launchq.trial import send_trial

    outcomes = asyncio.run(send_trial(load()))
    if as_json:
        print_json(outcomes)
    else:
        for one in outcomes:
            click.echo(f"{one['address']}: " + ("sent" if one["sent"] else f"not sent: {one['message']}"))
    return Exit.DONE if all(one["sent"] for one in outcomes) else Exit.UNEXPECTED
