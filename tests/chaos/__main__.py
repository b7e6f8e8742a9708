"""`make chaos`, or `PYTHONPATH=tests python -m chaos`: how launchq, and a plain Celery implementation, fare under fire."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from chaos.plan import Plan
from chaos.report import Progress, print_table
from chaos.run import Result, run
from chaos.subjects import NAMES

DEFAULTS = {field.name: field.default for field in fields(Plan)}


def number(name: str, text: str) -> Any:
    """An option for a field of the plan, with its default and its type."""
    return click.option(f"--{name.replace('_', '-')}", default=DEFAULTS[name], show_default=True, help=text)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@number("jobs", "how many jobs")
@number("workers", "how many workers at a time; a killed one is replaced at once")
@number("processes", "child processes of each worker")
@number("concurrency", "calls in flight in each child process")
@number("seed", "decides faults, kills and who is killed")
@number("faults", "share of create calls that go wrong")
@number("list_faults", "share of list calls that go wrong")
@number("refused", "share of the time in which the cloud refuses connections")
@number("kill_every", "seconds between two kills on average; 0 kills none")
@number("kill_for", "seconds in which workers are killed")
@number("redis_kills", "how often Redis is killed")
@number("token_life", "seconds that a token is good")
@number("latency", "seconds that the cloud takes for an answer")
@number("request_timeout", "seconds that a worker waits for an answer")
@number("verify_delays", "seconds after an unknown end at which launchq looks for the instance")
@number("hard_end", "seconds after which a run reports what it has")
@click.option(
    "--names",
    type=click.Choice([*NAMES, "both"]),
    default="both",
    show_default=True,
    help="unique: launchq adds a tag to each name; exact: distinct names, sent as they are; both of these; "
    "same: all jobs have the very same name",
)
@click.option(
    "--subject",
    type=click.Choice(["launchq", "celery", "both"]),
    default="launchq",
    show_default=True,
    help="who is put to the test",
)
@click.option("--json", "target", type=click.Path(path_type=Path), help="write all figures to this file")
@click.option("--logs", type=click.Path(path_type=Path), help="keep the workers' logs in this folder")
def main(names: str, subject: str, target: Path | None, logs: Path | None, **values: Any) -> None:
    """Launch many instances on a simulated cloud that fails, while workers and Redis are killed; then hold the cloud's
    own books against the ledger.

    Exit code 1: launchq lost a job, bought an instance twice, left one that nobody knows, or, with unique names, ended
    more than 1 % of the jobs as uncertain.

    Example: python -m chaos --jobs 300 --seed 11 --names unique
    """
    plan = Plan(**values)
    results: list[Result] = []
    for which, kind in runs(subject, names):
        with Progress(f"{which}, {kind} names") as progress:
            folder = None if logs is None else logs / f"{which}-{kind}"
            results.append(run(which, kind, plan, progress, logs=folder))
    print_table(results)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps([one.document() for one in results], indent=2) + "\n", encoding="utf-8")
    sys.exit(any(one.broken for one in results if one.subject == "launchq"))


def runs(subject: str, names: str) -> list[tuple[str, str]]:
    """Which subjects run with which names. Plain Celery has no tags to add, so of `both` it runs `exact` alone."""
    kinds = ["unique", "exact"] if names == "both" else [names]
    found = [("launchq", kind) for kind in kinds] if subject != "celery" else []
    if subject != "launchq":
        found += [("celery", kind) for kind in (["exact"] if names in {"both", "unique"} else kinds)]
    return found


if __name__ == "__main__":
    main()
