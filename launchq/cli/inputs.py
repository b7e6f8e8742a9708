"""Reading the files that `plan` and `submit` are given."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from launchq.inputs import INPUT_LIMIT, Inputs, read_inputs
from tasks.errors import InputError, Problem

count_option = click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1,
    metavar="N",
    help="N copies of each entry, named NAME-01, NAME-02, ...",
)
unknown_option = click.option(
    "--allow-unknown-fields",
    is_flag=True,
    help="Send fields that the API's document does not list, unchanged.",
)


def read_files(files: tuple[str, ...], count: int, allow_unknown: bool) -> Inputs:
    """Every file, read and checked; InputError with the problems of all of them."""
    if files.count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    given = (("standard input" if file == "-" else file, _text_of(file)) for file in files)
    return read_inputs(given, count, allow_unknown)


def _text_of(file: str) -> bytes | InputError:
    try:
        if file == "-":
            text = sys.stdin.buffer.read(INPUT_LIMIT + 1)
        else:
            with Path(file).open("rb") as stream:
                text = stream.read(INPUT_LIMIT + 1)
    except OSError as error:
        right = "give a file that exists, or - for standard input"
        return InputError([Problem("", f"cannot be read: {error.strerror}", right, file)])
    if len(text) > INPUT_LIMIT:
        return InputError([Problem("", "is too large", f"at most {INPUT_LIMIT // 1024**2} MiB", file)])
    return text
