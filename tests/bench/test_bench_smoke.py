"""The benchmarks run, and their report can be made: nothing is said of how quick anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import ROOT


def bench(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a tiny run, without alternatives."""
    made = tmp_path_factory.mktemp("bench")
    bench("throughput", "claim_cost", "--quick", "--no-peers", "--jobs", "40", "--results", str(made))
    return made


def test_a_scenario_writes_its_figures_and_what_they_were_measured_on(folder: Path) -> None:
    found = json.loads((folder / "throughput.json").read_text(encoding="utf-8"))
    assert {run["subject"]: run["distinct"] for run in found["runs"]} == {
        "launchq": 40,
        "bare aiohttp script": 40,
    }
    [ratio] = [row["values"] for row in found["rows"] if row["key"] == "throughput-bare"]
    assert ratio[0] > 0
    assert found["machine"]["redis"] != "unknown"


def test_the_report_has_every_row_and_names_no_place(folder: Path, tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    bench("--report-only", "--no-plots", "--results", str(folder), "--report", str(document))
    text = document.read_text(encoding="utf-8")
    for path in folder.glob("*.json"):
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            assert f"| {row['what']} | {row['against'] or '–'} |" in text
    assert str(ROOT) not in text
    assert str(folder) not in text


def test_the_same_figures_draw_the_same_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only `make bench` installs it")
    from bench.plots import draw
    from bench.results import Picture

    picture = Picture("x", "A picture", "ms", "bars", {"launchq": [1.0, 2.0], "another": [3.0]})
    first = (tmp_path / draw(picture, tmp_path)).read_bytes()
    assert (tmp_path / draw(picture, tmp_path)).read_bytes() == first
