"""`plan`: what would be launched, and the summary that a person confirms."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from config import load
from launchq.cli.inputs import count_option, read_files, unknown_option
from launchq.cli.options import json_option, show_script_option
from launchq.cli.output import note, print_json
from tasks.bodies import HOURLY_CHARGE_MODES
from tasks.catalogue import IN_STOCK, Catalogue, estimate
from tasks.errors import RefusedError
from tasks.plan import Group, grouped, why_ask


@click.command("plan")
@click.argument("files", nargs=-1, metavar="FILE...")
@count_option
@click.option(
    "--prices",
    is_flag=True,
    help="Ask the cloud for stock and prices (one call that only reads), and estimate what it would cost.",
)
@click.option(
    "--schema", is_flag=True, help="Print the JSON Schema of fleet files, for editors, and do nothing else."
)
@unknown_option
@show_script_option
@json_option
def plan_command(
    files: tuple[str, ...],
    count: int,
    prices: bool,
    schema: bool,
    allow_unknown_fields: bool,
    show_script: bool,
    as_json: bool,
) -> None:
    """Check FILE and show what would be launched. Calls nobody, neither the API nor Redis, unless --prices is given.

    FILE is a body exported by the console, a JSON array or JSON lines of bodies, a pasted curl command, a fleet file
    in YAML or JSON, or CSV; - reads standard input. Instances are shown by kind; --json shows each.

    \b
    Example:
      launchq plan fleet.yaml --prices
    """
    if schema:
        from tasks.fleet_schema import fleet_schema

        print_json(fleet_schema())
        return
    if not files:
        raise click.UsageError("Missing argument 'FILE...'.")
    from launchq.plans import plan_document, with_starts

    settings = load()
    inputs, late = with_starts(read_files(files, count, allow_unknown_fields), settings.timezone)
    inputs.batch(None)
    warnings = [*inputs.warnings(settings.api_url), *late]
    for warning in warnings:
        note(f"warning: {warning}")
    groups = grouped(inputs.entries)
    catalogue = _catalogue() if prices else None
    if as_json:
        print_json(plan_document(inputs, warnings, catalogue, show_script=show_script))
        return
    print_groups(groups, catalogue)
    total = len(inputs.entries)
    note(f"{total} instance{'s' if total != 1 else ''} would be launched. Nothing was.")
    if catalogue is not None:
        note(_in_all(groups, catalogue))
    if reason := why_ask(groups):
        note(f"`launchq submit` will ask: {reason}.")


def print_groups(groups: Sequence[Group], catalogue: Catalogue | None = None, *, err: bool = False) -> None:
    """The kinds of instances, a line each: drawn at a terminal, tab-separated when piped. `err`: on stderr."""
    titles = ["count", "instance type", "region", "billing", "capacity", "names"]
    rows = [_row(group) for group in groups]
    if any(str(group.policy) for group in groups):
        titles.append("how")
        for row, group in zip(rows, groups, strict=True):
            row.append(str(group.policy) or "-")
    if catalogue is not None:
        titles += ["stock", "price", "for the period"]
        for row, group in zip(rows, groups, strict=True):
            row.extend(_cost(group, catalogue))
    if not (sys.stderr if err else sys.stdout).isatty():
        for row in rows:
            click.echo("\t".join(row), err=err)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold", justify="right" if title == "count" else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(stderr=err).print(table)


def confirm(groups: Sequence[Group], *, yes: bool) -> None:
    """Have a person confirm what would be a costly slip. UsageError where nobody is there to ask, RefusedError for a no."""
    reason = why_ask(groups)
    if yes or not reason:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(
            f"{reason}: without a terminal to ask at, that takes --yes. Nothing was launched."
        )
    print_groups(groups, err=True)
    total = sum(group.count for group in groups)
    typed = click.prompt(
        f"{reason}. To launch them, type how many: {total}", default="", show_default=False, err=True
    )
    if typed.strip() != str(total):
        raise RefusedError("not confirmed; nothing was launched")


def _row(group: Group) -> list[str]:
    request = group.request
    return [
        str(group.count),
        request.instance_type_id,
        request.region,
        f"{request.billing.charge_mode} x {request.billing.duration}",
        "spot" if request.is_spot_instance else "on demand",
        group.names,
    ]


def _cost(group: Group, catalogue: Catalogue) -> list[str]:
    offer = catalogue.offer(group.request)
    cost = estimate(offer, group.request, group.count)
    stock = "in stock" if offer.stock == IN_STOCK else offer.stock or "stock unknown"
    if cost.per_hour is None:
        return [stock, "price unknown", "price unknown"]
    hourly = group.request.billing.charge_mode in HOURLY_CHARGE_MODES
    return [stock, f"{cost.per_hour:.2f} an hour", "until it ends" if hourly else f"{cost.period:.2f}"]


def _in_all(groups: Sequence[Group], catalogue: Catalogue) -> str:
    costs = [
        (group, estimate(catalogue.offer(group.request), group.request, group.count).per_hour)
        for group in groups
    ]
    known = sum(cost for _, cost in costs if cost is not None)
    unknown = sum(group.count for group, cost in costs if cost is None)
    if unknown == sum(group.count for group in groups):
        return "Estimated price: unknown."
    more = f", and unknown for {unknown} of the instances" if unknown else ""
    return f"Estimated price: {known:.2f} an hour in all, in the account's currency{more}."


def _catalogue() -> Catalogue:
    """The catalogue, or an empty one; then why is said."""
    from launchq.launcher import Launcher
    from launchq.plans import find_catalogue

    with Launcher() as launcher:
        found, why = find_catalogue(launcher.settings, launcher.ledger)
    if why:
        note(f"stock and prices are unknown: {why}")
    return found
