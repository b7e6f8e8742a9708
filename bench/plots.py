"""The report's plots, as SVG that does not change unless the figures do."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.results import Picture

OURS, OTHERS = "#1f6feb", "#9aa4b2"


def draw(picture: Picture, folder: Path) -> str:
    """Draw a picture into the folder; the file's name."""
    # A fixed salt and no date: the same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "launchq", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(8, 1 + 0.42 * len(picture.series)) if picture.kind == "bars" else (8, 4))
        axes = figure.subplots()
        axes.set_title(picture.title, loc="left", fontsize=11)
        if picture.kind == "bars":
            names = [name for name, values in picture.series.items() if values][::-1]
            for place, name in enumerate(names):
                values = picture.series[name]
                middle = statistics.median(values)
                colour = OURS if "launchq" in name else OTHERS
                axes.barh(place, middle, color=colour)
                if len(values) > 1:
                    axes.plot([min(values), max(values)], [place, place], color="black", linewidth=1)
                axes.annotate(
                    f"{middle:,.2f}" if middle < 10 else f"{middle:,.0f}", (max(values), place),
                    xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
                )  # fmt: skip
            axes.set_yticks(range(len(names)), names, fontsize=9)
            axes.set_xlabel(picture.axis)
            axes.margins(x=0.12)
            axes.set_xlim(left=min(0, axes.get_xlim()[0]))
        else:
            for name, values in picture.series.items():
                colour = OURS if name in ("launchq", "measured") else OTHERS
                axes.plot(picture.x, values, marker="o", markersize=3, label=name, color=colour)
            if len(picture.x) < 10:
                axes.set_xticks(picture.x)
            axes.set_xlabel(picture.x_axis)
            axes.set_ylabel(picture.axis)
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        name = f"benchmarks-{picture.name}.svg"
        figure.savefig(
            folder / name, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    return name
