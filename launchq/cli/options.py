"""Options and types that several commands share."""

from __future__ import annotations

import re
from typing import Any

import click

from config import seconds
from config.settings import patience

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, nothing else."
)
max_parallel_option = click.option(
    "--max-parallel",
    type=click.IntRange(0, 100_000),
    metavar="N",
    help="With a batch: at most N of its calls in flight at once; 0 is any number.",
)
stop_after_option = click.option(
    "--stop-after-failures",
    type=click.IntRange(0, 100_000),
    metavar="N",
    help="With a batch: once N of its jobs have failed, hold the rest until `launchq resume`; 0 is never.",
)
show_script_option = click.option(
    "--show-script", is_flag=True, help="Show init scripts, which may hold secrets."
)


class Patience(click.ParamType[float]):
    """A length of time, or `forever`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return patience(value)
        except ValueError as error:
            self.fail(f"{error}, or forever", param, ctx)


class Duration(click.ParamType[float]):
    """`30`, `30s`, `10m`, `6h`, `7d`, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class EventId(click.ParamType[str]):
    """`1795479214479-0`, as events have it; Redis also takes the part before the dash alone."""

    name = "event"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        given = str(value)
        if given and not (
            re.fullmatch(r"[0-9]{1,20}(-[0-9]{1,20})?", given)
            and all(int(part) < 1 << 64 for part in given.split("-"))
        ):
            self.fail(f"{given!r} is no event's id; one looks like 1795479214479-0", param, ctx)
        return given
