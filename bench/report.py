"""The report: one table of what was wanted and what was measured, and the figures and plots behind it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from bench.results import Row, Saved, Table

REMARKS = Path(__file__).parent / "remarks.toml"

VERDICTS = {True: "reached", False: "**short**", None: "–"}


def write(saved: Sequence[Saved], document: Path, *, plots: bool = True) -> None:
    """Write the report, and its plots beside it. ValueError where there are no results."""
    if not saved:
        raise ValueError("there are no results to report; run `make bench` first")
    remarks: dict[str, str] = tomllib.loads(REMARKS.read_text(encoding="utf-8"))
    document.parent.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, list[str]] = {}
    if plots:
        from bench.plots import draw

        for one in saved:
            pictures[one.scenario] = [draw(picture, document.parent) for picture in one.result.pictures]
    parts = [
        HEAD,
        _machine(saved),
        _summary(saved, remarks),
        *(_details(one, pictures.get(one.scenario, [])) for one in saved),
        HOW,
    ]
    document.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


HEAD = """
# Benchmarks

<!-- Made by `make bench`; do not edit. What falls short is explained in bench/remarks.toml. -->

```sh
make bench                                # all of it, then this document; half an hour
make bench BENCH="--quick"                # tiny sizes, a minute: does everything work?
make bench BENCH="throughput pick_up"     # some of it; `BENCH=--report-only` then makes the document anew
```

Every figure is a ratio to something that was measured in the same run on the same machine, wherever there is something to measure against:
machines differ, and one machine's speed differs from minute to minute. Where there were rounds, figures are medians, with the range of all rounds behind them.
"""

HOW = """
## How it is measured

- **The same for all.** One simulated cloud (`bench/cloud.py`, one process) answers each create call 100 ms after it arrived, and counts. One fresh Redis for each run, with an
  append-only file and the same settings for every subject, unless a row says otherwise. Cloud, Redis and workers share the machine, so what one needs the others lack.
- **In turns.** A round measures every subject once, the next round begins with another subject. Ratios are taken within a round.
- **Jobs a second** are those of the cloud: from the first call's arrival to the last's. The queue is filled before any worker starts, since enqueueing is measured apart.
- **Worker CPU** is user and system time of all processes of a worker, from the first 2% of the jobs to the end, as the kernel counts it.
- **Durable.** `appendfsync always`, as launchq's `docker-compose.yml` has it. The alternatives are measured on `everysec` too, which is quicker and may lose a second:
  rows of their own tell of it.
- **Alternatives** are set up as their manuals show, one task a job, each in an environment of its own (`bench/peers/`, exact pins): one aiohttp session for all calls of a process where there is an event
  loop (Celery's threads have one beside them), urllib3's pool elsewhere. Results are kept, since a bought instance's id is what it is all about; "no results" says where not. Celery acknowledges late, and
  has all the connections it wants.
- **launchq** runs as shipped, but for `LAUNCHQ_RATE_LIMIT=0`: by default it makes 10 create calls a second.
- **Where time goes** is sampled by py-spy from outside, in a second run; shares of samples are scaled to the CPU time of a run that nobody watched.
"""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _machine(saved: Sequence[Saved]) -> str:
    """What it was measured on; differing runs are told apart by their days and commits."""
    first = saved[0].machine
    lines = [
        f"Measured on {first['cores']} cores ({first['processor']}), {first['memoryGb']} GB, {first['system']}, Python {first['python']}, "
        f"{first['redis']} with `appendfsync {first['appendfsync']}`; {first['rounds']} rounds."
    ]
    runs = sorted({(one.machine["at"], one.machine["commit"]) for one in saved})
    lines.append("Commits: " + ", ".join(f"`{commit}` ({at})" for at, commit in runs) + ".")
    if any(one.machine["quick"] for one in saved):
        lines.append("**This is a quick run: its sizes are too small to mean anything.**")
    return "\n".join(lines)


def _summary(saved: Sequence[Saved], remarks: dict[str, str]) -> str:
    rows = [row for one in saved for row in one.result.rows]
    table = _table(
        ["what", "against", "wanted", "measured", "verdict"],
        [[row.what, row.against or "–", row.wanted, row.measured, VERDICTS[row.reached]] for row in rows],
    )
    names = _names(rows)
    short = [row for row in rows if row.reached is False]
    missing = [row for row in rows if not row.values]
    parts = ["## What was wanted, and what was measured", table]
    if short:
        parts.append("### Where it falls short, and what would change it")
        parts.append(
            "\n".join(f"- **{names[row.key]}** {remarks.get(row.key, 'Not explained yet.')}" for row in short)
        )
    if missing:
        told = "\n".join(f"- {names[row.key]}" for row in missing)
        parts.append(f"Not measured in this run, for want of what it is compared with:\n\n{told}")
    return "\n\n".join(parts)


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """For each row's key, the row in a sentence; `the same` is what the row before it was about."""
    names, what = {}, ""
    for row in rows:
        what = row.what.replace("the same", what, 1) if row.what.startswith("the same") else row.what
        against = f", against {row.against}" if row.against else ""
        names[row.key] = f"{what}{against}: {row.measured.replace('**', '')}, wanted {row.wanted}."
    return names


def _details(one: Saved, pictures: Sequence[str]) -> str:
    parts = [f"## {one.title}"]
    details = [f"- {row.what}, to {row.against}: {row.detail}." for row in one.result.rows if row.detail]
    if details:
        parts.append("\n".join(details))
    parts += [f"![{picture}]({picture})" for picture in pictures]
    parts += [_shown(table) for table in one.result.tables]
    parts += one.result.notes
    return "\n\n".join(parts)


def _shown(table: Table) -> str:
    return f"**{table.title}**\n\n{_table(table.columns, table.rows)}"
