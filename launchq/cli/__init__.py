"""The command line. Commands are loaded when they are called, so that `--help` and reading are quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

import click

COMMANDS: Final = {
    "up": (
        "local",
        "Run everything on this machine until Ctrl-C: a throwaway Redis (unless LAUNCHQ_REDIS_URL is set) and a worker.",
    ),
    "demo": (
        "demo",
        "Launch a small fleet on a simulated cloud, watch it to its end, and stop everything again.",
    ),
    "worker": (
        "local",
        "Run one worker until SIGTERM or Ctrl-C; it then finishes the calls that are in flight.",
    ),
    "sandbox": (
        "local",
        "Run the simulated cloud alone, with faults on request (see `launchq sandbox --help`).",
    ),
    "plan": ("plan", "Check FILE and show what would be launched."),
    "submit": (
        "submit",
        "Enter the launch requests of FILE as jobs: all of them or, where something is wrong, none.",
    ),
    "status": (
        "read",
        "Show a job or a batch; without ID, the account: open, paused or blocked and why, counts, workers.",
    ),
    "list": ("read", "List jobs, the latest change first."),
    "wait": ("read", "Wait until jobs (or all jobs of batches) have ended."),
    "watch": (
        "batch",
        "Watch batches (or jobs) until all have ended: how far they are, how fast, and what goes wrong.",
    ),
    "export": (
        "batch",
        "Print what came of a batch: for each job its name, its instance's name and id, and its error.",
    ),
    "events": ("read", "Show the changes of jobs' states, the oldest first."),
    "cancel": ("act", "Take back jobs, or batches, that have not been sent."),
    "retry": ("act", "Make jobs due again that failed or were cancelled; of a batch, all such jobs."),
    "resolve": ("act", "Say what happened to an uncertain job, after a look in the console."),
    "pause": ("act", "Send nothing more of BATCH or, without one, nothing at all, until `launchq resume`."),
    "resume": ("act", "Have BATCH or, without one, the account go on after `launchq pause`."),
    "board": (
        "board",
        "Serve the board: pages that show what runs, and the HTTP API, until SIGTERM or Ctrl-C.",
    ),
    "schedule": (
        "schedule",
        "Recurring launches: each time that a schedule comes up, the workers make one batch of it.",
    ),
    "auth": ("auth", "The token that all workers use."),
    "notify": ("notify", "Notifications: messages to Feishu, DingTalk, WeCom, Slack or a program of yours."),
    "doctor": (
        "doctor",
        "Look whether everything is in place: settings, Redis, workers, clock, token, the cloud's API.",
    ),
}
"""Command -> the module of this package that has it, and its line in `--help`, which is so read without loading it."""


class _Commands(click.Group):
    """Loads a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"launchq.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands in `--help`."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, click.Command(name, help=text).get_short_help_str(limit))
                    for name, (_, text) in COMMANDS.items()
                ]
            )


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
        sys.exit(code if isinstance(code, int) else 0)
    except Exception as error:  # noqa: BLE001 (the last place that can say something readable)
        from launchq.cli.output import complain

        sys.exit(complain(error, as_json="--json" in words))
