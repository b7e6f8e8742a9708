"""What is to be launched, as it was given: files, a request's body, a pasted text. Read and checked, all of it or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.entries import Entry, expand_count, identify, repeated_names
from tasks.errors import InputError, Problem
from tasks.intake import Intake, read_input

INPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of one input, at most: larger ones are no lists of launch requests."""


@dataclass(frozen=True)
class Inputs:
    """All inputs of one submission, and the entries of all of them."""

    intakes: Sequence[Intake]
    entries: tuple[Entry, ...]

    def batch(self, given: str | None) -> str | None:
        """The batch's name: as it was given, otherwise as the fleet files say. InputError where they name several."""
        named = sorted({intake.batch for intake in self.intakes if intake.batch is not None})
        if given is None and len(named) > 1:
            wrong = f"the files name several batches ({', '.join(named)})"
            raise InputError([Problem("", wrong, "say which with --batch")])
        return given if given is not None or not named else named[0]

    def warnings(self, api_url: str, *, token_used: bool = False, unique_names: bool = False) -> list[str]:
        """What is no error, but not to be overlooked. `api_url` is the one that the workers call."""
        found = [
            warning
            for intake in self.intakes
            for warning in intake.warnings
            if not (token_used and "--use-token" in warning)
        ]
        api = urlsplit(api_url)
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


def read_inputs(
    given: Iterable[tuple[str, str | bytes | InputError]], count: int, allow_unknown: bool
) -> Inputs:
    """Inputs, each with what it is called in messages, or why it could not be had. InputError with the problems of all."""
    intakes: list[Intake] = []
    problems: list[Problem] = []
    for source, text in given:
        try:
            if isinstance(text, InputError):
                raise text
            intakes.append(read_input(text, source=source, allow_unknown=allow_unknown))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    entries = identify(entry for intake in intakes for entry in intake.entries)
    return Inputs(intakes, expand_count(entries, count))
