"""`board`: the web service, and the tokens that it takes."""

from __future__ import annotations

from importlib.util import find_spec

import click

from launchq.cli.options import json_option
from launchq.cli.output import local, note, print_json
from tasks.errors import InputError, Problem
from tasks.jobs import KEY_LENGTH, rfc3339

PORT = 8470

host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen. Anywhere but on this machine's own address, every request needs a token.",
)
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 is any that is free."
)


@click.group("board", invoke_without_command=True)
@host_option
@port_option
@click.option(
    "--require-token", is_flag=True, help="Demand a token on this machine too, such as behind a proxy."
)
@click.pass_context
def board_command(context: click.Context, host: str, port: int, require_token: bool) -> None:
    """Serve the board: pages that show what runs, and the HTTP API, until SIGTERM or Ctrl-C.

    On 127.0.0.1 it takes requests of this machine without a token. `launchq board token` makes tokens.

    \b
    Example:
      launchq board --port 8470
    """
    if context.invoked_subcommand is not None:
        return
    require_extra()
    from config import load
    from launchq.board.serve import is_loopback, serve

    settings = load()
    is_open = is_loopback(host) and not require_token
    try:
        serve(settings, host=host, port=port, is_open=is_open, said=note)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host} port {port}: {error.strerror or error}"
        ) from None


def require_extra() -> None:
    """ClickException where what the board needs is not installed."""
    missing = [
        name for name in ("fastapi", "jinja2", "prometheus_client", "uvicorn") if find_spec(name) is None
    ]
    if missing:
        raise click.ClickException(
            f"the board needs what the extra `board` brings (there is no {missing[0]}): pip install 'launchq[board]'"
        )


@board_command.group("token")
def token_command() -> None:
    """The tokens that the board takes, off this machine or with --require-token.

    \b
    Example:
      launchq board token add ci
    """


@token_command.command("add")
@click.argument("name")
@click.option("--read-only", is_flag=True, help="It may look, and change nothing.")
@json_option
def token_add_command(name: str, read_only: bool, as_json: bool) -> None:
    """Make a token called NAME, and print it. It is shown this once: Redis keeps its hash only.

    \b
    Example:
      (umask 077; launchq board token add prometheus --read-only > prometheus-token)
    """
    from launchq.launcher import Launcher

    if not name.strip() or not name.isprintable() or len(name) > KEY_LENGTH:
        raise InputError(
            [Problem("", "this is no name for a token", f"1 to {KEY_LENGTH} printable characters")]
        )
    with Launcher() as launcher:
        token = launcher.ledger.add_pass(name, full=not read_only)
    print_json({"name": name, "readOnly": read_only, "token": token}) if as_json else click.echo(token)


@token_command.command("list")
@json_option
def token_list_command(as_json: bool) -> None:
    """List the tokens: their names, what they may do, and when they were made.

    \b
    Example:
      launchq board token list
    """
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        passes = launcher.ledger.passes()
    if as_json:
        documents = [
            {"name": one.name, "readOnly": not one.full, "createdAt": rfc3339(one.created_at)}
            for one in passes
        ]
        print_json({"tokens": documents})
        return
    for one in passes:
        click.echo(f"{one.name}\t{'full' if one.full else 'read-only'}\t{local(one.created_at)}")


@token_command.command("remove")
@click.argument("name")
@json_option
def token_remove_command(name: str, as_json: bool) -> None:
    """Take the token called NAME back, at once, and log out the browsers that used it.

    \b
    Example:
      launchq board token remove ci
    """
    from launchq.launcher import Launcher

    with Launcher() as launcher:
        launcher.ledger.remove_pass(name)
    print_json({"name": name, "removed": True}) if as_json else click.echo(f"{name}\tremoved")
