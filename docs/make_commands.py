"""Writes docs/commands.md from the commands themselves: `python docs/make_commands.py`."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from launchq.cli import group
from launchq.cli.output import Exit
from sandbox.command import parser as sandbox_parser

TARGET = Path(__file__).parent / "commands.md"

_HEAD = """# The commands

<!-- Made by docs/make_commands.py from the commands themselves. Change those, then run it again. -->

What a command has to say goes to stdout; progress, warnings and logs go to stderr. With `--json`, stdout holds one JSON
document and nothing else. Settings come from `LAUNCHQ_*` in the environment, then from `.env` in the current folder.

| exit code | meaning |
| --- | --- |
"""

_EXITS = {
    Exit.DONE: "done; of a command that waits: every job succeeded",
    Exit.UNEXPECTED: "something unexpected, or Redis or the API is out of reach",
    Exit.BAD_INPUT: "bad usage or bad input; nothing was launched",
    Exit.JOB_FAILED: "a job failed or was cancelled",
    Exit.TIMED_OUT: "the time to wait is over; the jobs go on",
    Exit.UNCERTAIN: "a job is uncertain: look in the console",
    Exit.INTERRUPTED: "interrupted by Ctrl-C; jobs that were submitted go on",
}


def document() -> str:
    """The whole page."""
    head = _HEAD + "".join(f"| {int(code)} | {_EXITS[code]} |\n" for code in Exit)
    return "\n".join((head, *_sections(click.Context(group, info_name="launchq"))))


def _sections(parent: click.Context) -> Iterator[str]:
    commands = parent.command
    assert isinstance(commands, click.Group)
    for name in commands.list_commands(parent):
        command = commands.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent)
        yield _section(context)
        if isinstance(command, click.Group):
            yield from _sections(context)


def _section(context: click.Context) -> str:
    path = context.command_path
    usage = " ".join(context.command.collect_usage_pieces(context))
    if path == "launchq sandbox":  # has a parser of its own
        usage, options = "[OPTIONS]", list(_sandbox_options())
    else:
        records = (parameter.get_help_record(context) for parameter in context.command.get_params(context))
        options = [record for record in records if record and record[1] and "--help" not in record[0]]
    parts = [f"## {path}\n", f"```\n{path} {usage}\n```\n", *_paragraphs(context.command.help or "")]
    if options:
        rows = "".join(f"| `{_cell(names)}` | {_cell(text)} |\n" for names, text in options)
        parts.append(f"| option | meaning |\n| --- | --- |\n{rows}")
    return "\n".join(parts)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):  # click's sign for "leave these lines as they are"
            title, _, lines = paragraph.removeprefix("\b\n").partition("\n")
            yield f"{title}\n\n```sh\n{textwrap.dedent(lines)}\n```\n"
        else:
            yield " ".join(paragraph.split()) + "\n"


def _sandbox_options() -> Iterator[tuple[str, str]]:
    for action in sandbox_parser()._actions:
        if action.help in (None, argparse.SUPPRESS) or "--help" in action.option_strings:
            continue
        metavar = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        default = "" if action.default in (None, False, []) else f"  [default: {action.default}]"
        yield f"{', '.join(action.option_strings)}{metavar}", f"{action.help}{default}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
