"""`python -m bench [SCENARIO...]` measures and writes JSON; `python -m bench --report-only` writes the report from it."""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path

import click

from bench import machine, report, results
from bench.processes import ROOT
from bench.progress import Display
from bench.scenario import Bench
from bench.scenarios import NAMES, scenario

BUILD = ROOT / "build" / "bench"
DOCUMENT = ROOT / "docs" / "benchmarks.md"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[SCENARIO]...")
@click.option("--quick", is_flag=True, help="Tiny sizes, one round: to see that everything works.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    metavar="N",
    help="How often everything is measured, in turns. Default: 3.",
)
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="Another number of jobs than the scenarios' own."
)
@click.option(
    "--peers/--no-peers", default=None, help="Install and measure the alternatives. Default: unless --quick."
)
@click.option(
    "--results",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where JSON goes. Default: build/bench.",
)
@click.option(
    "--redis",
    "redis_binary",
    metavar="PROGRAM",
    help="Which Redis server to start. Default: the first that is found.",
)
@click.option(
    "--fsync",
    type=click.Choice(["always", "everysec"]),
    default="always",
    show_default=True,
    help="Redis' appendfsync.",
)
@click.option(
    "--report",
    "document",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report here. Default: docs/benchmarks.md, after a full run of all.",
)
@click.option(
    "--report-only", is_flag=True, help="Measure nothing; write the report from the results that are there."
)
@click.option("--plots/--no-plots", default=True, help="Draw the plots beside the report.")
def main(
    names: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    jobs: int | None,
    peers: bool | None,
    folder: Path | None,
    redis_binary: str | None,
    fsync: str,
    document: Path | None,
    report_only: bool,
    plots: bool,
) -> None:
    """Measure launchq beside a bare script and its alternatives.

    SCENARIO: see bench/scenarios; all of them unless named.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything that was started is ended
    folder = (folder or (BUILD / "quick" if quick else BUILD)).absolute()
    failed: list[str] = []
    if not report_only:
        with Display() as display:
            bench = Bench(
                folder=folder,
                tell=display,
                quick=quick,
                rounds=rounds or (1 if quick else 3),
                peers=not quick if peers is None else peers,
                jobs=jobs,
                fsync=fsync,
                redis_binary=redis_binary,
            )
            failed = [name for name in names or NAMES if not _measure(bench, name, display)]
    if document is None and (report_only or not (quick or names or failed)):
        document = DOCUMENT
    if document is not None:
        report.write(results.read(folder), document, plots=plots)
        click.echo(f"report: {document.name}", err=True)
    if failed:
        raise click.ClickException("failed: " + ", ".join(failed))


def _measure(bench: Bench, name: str, display: Display) -> bool:
    """Run one scenario and write its JSON. False where it failed; the others go on."""
    one = scenario(name)
    try:
        result = one.run(bench)
    except Exception:  # noqa: BLE001  whatever it is, an hour of other measurements is not to be lost for it
        display.line(f"{name} failed:\n{traceback.format_exc()}")
        return False
    described = machine.describe(redis_binary=bench.redis_binary, fsync=bench.fsync)
    described |= {"quick": bench.quick, "rounds": bench.rounds}
    path = results.save(bench.folder, name, one.title, one.order, described, result)
    for row in result.rows:
        verdict = "-" if bench.quick else {True: "reached", False: "SHORT", None: "-"}[row.reached]
        display.line(f"{row.what} | {row.against} | {row.wanted} | {row.measured} | {verdict}")
    display.line(f"{name}: {path.name}")
    return True


if __name__ == "__main__":
    main()
