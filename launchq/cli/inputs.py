"""Reading the files that `plan` and `submit` are given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import click

from config import load
from tasks.entries import Entry, expand_count, identify, repeated_names
from tasks.errors import InputError, Problem
from tasks.intake import Intake, read_input

INPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of one input file, at most: larger ones are no lists of launch requests."""

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


@dataclass(frozen=True)
class Inputs:
    """All files of one command, and the entries of all of them."""

    intakes: Sequence[Intake]
    entries: tuple[Entry, ...]

    def batch(self, given: str | None) -> str | None:
        """The batch's name: as it was given, otherwise as the fleet files say."""
        named = sorted({intake.batch for intake in self.intakes if intake.batch is not None})
        if given is None and len(named) > 1:
            raise click.UsageError(
                f"the files name several batches ({', '.join(named)}): say which with --batch"
            )
        return given if given is not None or not named else named[0]

    def warnings(self, *, token_used: bool = False, unique_names: bool = False) -> list[str]:
        """What is no error, but not to be overlooked."""
        found = [
            warning
            for intake in self.intakes
            for warning in intake.warnings
            if not (token_used and "--use-token" in warning)
        ]
        api = urlsplit(load().api_url)
        for intake in self.intakes:
            given = urlsplit(intake.curl_url or "")
            if given.hostname and given.hostname != api.hostname:
                found.append(
                    f"the curl command names {given.hostname}, but the workers call {api.hostname} (LAUNCHQ_API_URL)"
                )
        repeated = {} if unique_names else repeated_names(self.entries)
        if repeated:
            name, count = next(iter(repeated.items()))
            more = f", and {len(repeated) - 1} other names for several" if len(repeated) > 1 else ""
            found.append(
                f"{count} instances would have the same name, {name}{more}: after a lost answer nobody can tell them apart;"
                " give each a name of its own, or use unique names"
            )
        return found


def read_files(files: tuple[str, ...], count: int, allow_unknown: bool) -> Inputs:
    """Every file, read and checked; InputError with the problems of all of them."""
    intakes: list[Intake] = []
    problems: list[Problem] = []
    if files.count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    for file in files:
        try:
            text = _text_of(file)
            source = "standard input" if file == "-" else file
            intakes.append(read_input(text, source=source, allow_unknown=allow_unknown))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    entries = identify(entry for intake in intakes for entry in intake.entries)
    return Inputs(intakes, expand_count(entries, count))


def _text_of(file: str) -> bytes:
    try:
        if file == "-":
            text = sys.stdin.buffer.read(INPUT_LIMIT + 1)
        else:
            with Path(file).open("rb") as stream:
                text = stream.read(INPUT_LIMIT + 1)
    except OSError as error:
        right = "give a file that exists, or - for standard input"
        raise InputError([Problem("", f"cannot be read: {error.strerror}", right, file)]) from None
    if len(text) > INPUT_LIMIT:
        raise InputError([Problem("", "is too large", f"at most {INPUT_LIMIT // 1024**2} MiB", file)])
    return text
