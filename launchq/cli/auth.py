"""`auth`: the token that all workers use, and keys to seal it with."""

from __future__ import annotations

import sys
from typing import Any

import click

from launchq.cli.options import json_option
from launchq.cli.output import account_line, local, print_json
from launchq.documents import account_document


@click.group("auth")
def auth_command() -> None:
    """The token that all workers use.

    \b
    Example:
      launchq auth set-token < token.txt
    """


@auth_command.command("set-token")
@json_option
def set_token_command(as_json: bool) -> None:
    """Read a token from standard input (never from the command line, which others can see) and use it from now on.

    An account that was blocked for want of a token is open again at once.

    \b
    Example:
      launchq auth set-token < token.txt
    """
    from launchq.launcher import Launcher

    if sys.stdin.isatty():
        token = str(click.prompt("token", hide_input=True, err=True))
    else:
        token = sys.stdin.read(65536)
    with Launcher() as launcher:
        launcher.set_token(token)
        document, account = _status(launcher)
    if as_json:
        print_json(document)
    else:
        click.echo(f"token kept, ends {local(account.token['expiresAt'])}")


@auth_command.command("new-key")
@json_option
def new_key_command(as_json: bool) -> None:
    """Print a new key for LAUNCHQ_SECRET_KEY, with which request bodies and tokens are sealed in Redis.

    It is kept nowhere else: without it, what it sealed is lost.

    \b
    Example:
      (umask 077; launchq auth new-key > secret-key)
    """
    from cryptography.fernet import Fernet

    key = Fernet.generate_key().decode()
    if as_json:
        print_json({"key": key})
    else:
        click.echo(key)


@auth_command.command("status")
@json_option
def auth_status_command(as_json: bool) -> None:
    """Show whether there is a token, where it came from, and when it ends.

    \b
    Example:
      launchq auth status
    """
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        document, account = _status(launcher)
    if as_json:
        print_json(document)
        return
    token = account.token
    if token["present"]:
        click.echo(
            f"token: from {token['source']}, stored {local(token['storedAt'])}, ends {local(token['expiresAt'])}"
        )
    else:
        click.echo(
            "token: none; the workers make one when user name and password are set, otherwise use `launchq auth set-token`"
        )
    click.echo(f"account: {account_line(account)}")


def _status(launcher: Any) -> tuple[dict[str, Any], Any]:
    account = launcher.account()
    document = account_document(account)
    return {"token": document["token"], "account": document["account"]}, account
