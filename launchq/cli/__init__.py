"""The command line. Commands are loaded when they are called, so that `--help` and reading are quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

import click

from launchq.cli.output import Exit, complain

_COMMANDS: Final = {
    "up": "local",
    "demo": "demo",
    "worker": "local",
    "sandbox": "local",
    "plan": "plan",
    "submit": "submit",
    "status": "read",
    "list": "read",
    "wait": "read",
    "watch": "batch",
    "export": "batch",
    "events": "read",
    "cancel": "act",
    "retry": "act",
    "resolve": "act",
    "pause": "act",
    "resume": "act",
    "board": "board",
    "schedule": "schedule",
    "auth": "auth",
    "notify": "notify",
    "doctor": "doctor",
}
"""Command -> the module of this package that has it."""


class _Commands(click.Group):
    """Loads a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"launchq.cli.{_COMMANDS[cmd_name]}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command


@click.command(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="launchq", prog_name="launchq")
def group() -> None:
    """Launch cloud instances: many, later, or as soon as there is capacity.

    Settings come from LAUNCHQ_* in the environment, then from .env.

    \b
    Try it without an account:
      launchq demo
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 1 unexpected or out of reach, 2 bad usage or input, 3 a job failed or was
    cancelled, 4 timed out waiting, 5 a job is uncertain."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = group.main(args=words, prog_name="launchq", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else Exit.DONE)
    except Exception as error:  # noqa: BLE001 (the last place that can say something readable)
        sys.exit(complain(error, as_json="--json" in words))
