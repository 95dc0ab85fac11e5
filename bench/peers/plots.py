"""Draw one plot a table: `python -m bench.peers.plots RESULTS.json FOLDER`.

Runs in the peers' environment, which has matplotlib.
"""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

mpl.use("Agg")

_UNITS = {
    "jobs_per_second": "jobs/s",
    "mb_per_second": "MB/s",
    "cpu_per_1000_jobs": "CPU s/1,000 jobs",
    "cpu_per_gib": "CPU s/GiB",
    "peak_mib": "peak MiB",
    "p50_ms": "p50, ms",
    "p95_s": "p95, s",
    "broker_mib": "RabbitMQ, MiB",
    "seconds": "s",
}
_OURS, _OTHERS = "#1f77b4", "#b0b7bf"


def draw(table: dict[str, Any], path: Path) -> None:
    """Draw the headline of a table: a bar for each median, a whisker from minimum to maximum."""
    headline = table["headline"]
    rows = {name: row[headline] for name, row in table["rows"].items() if headline in row}
    middles = [median(samples) for samples in rows.values()]
    below = [middle - min(samples) for middle, samples in zip(middles, rows.values(), strict=True)]
    above = [max(samples) - middle for middle, samples in zip(middles, rows.values(), strict=True)]
    alone = "ccfs-worker" not in rows
    colours = [_OURS if alone or name == "ccfs-worker" else _OTHERS for name in rows]
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.42 * len(rows)), layout="constrained")
    bars = axes.barh(list(rows), middles, xerr=[below, above], color=colours, ecolor="#444444", capsize=3)
    axes.bar_label(bars, labels=[f" {middle:,.4g}" for middle in middles], label_type="center", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(_UNITS[headline])
    axes.set_title(table["title"], fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    results, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for key, each in json.loads(results.read_text())["tables"].items():
        draw(each, folder / f"{key}.png")
