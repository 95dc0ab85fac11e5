"""Draw the dashboard from a real run, and take pictures of the page and of `top` in it: `make picture`.

Grafana has no part in it: the panels of `helm/files/dashboard.json` are drawn here, at their places, from
their own queries, which a real Prometheus answers.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich.filesize import pick_unit_and_suffix

from devkit import ROOT
from devkit.demo.screens import take
from devkit.demo.shift import Shift, worked
from devkit.run.prometheus import Series

_DASHBOARD = ROOT / "helm/files/dashboard.json"
_PICTURE = ROOT / "docs/dashboard.png"
_PAGE, _TOP = ROOT / "docs/page.png", ROOT / "docs/top.png"
_STEP, _RATE_INTERVAL, _RANGE = 2.0, "15s", "5m"
_CELL_WIDTH, _CELL_HEIGHT = 0.75, 0.32
_COLUMNS = 24
_DAY = 86_400
_HEAD = 2
_GROUND, _PANEL, _INK, _SOFT, _GRID = "#111217", "#181b1f", "#d8d9da", "#8e9196", "#2c2f36"
_NAMED = {"red": "#f2495c", "green": "#73bf69", "text": _INK}
_NOTE = (
    "Drawn by devkit/demo/picture.py, not by Grafana: the dashboard's panels and queries, answered by "
    "Prometheus from a run of two workers in which CC-FS first asks to slow down and then falls silent."
)


def main() -> None:
    """Run a shift and draw it."""
    asyncio.run(_record())


async def _record() -> None:
    async with worked(partial(take, page=_PAGE, top=_TOP)) as shift:
        _draw(json.loads(_DASHBOARD.read_text()), shift)


def _draw(dashboard: Mapping[str, Any], shift: Shift) -> None:
    mpl.rcParams.update({"font.size": 8, "text.color": _INK, "axes.labelcolor": _SOFT})
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + _HEAD
    figure = Figure(figsize=(_COLUMNS * _CELL_WIDTH, rows * _CELL_HEIGHT), facecolor=_GROUND)
    figure.text(0.01, 1 - 0.7 / rows, f"{dashboard['title']} · {_NOTE}", color=_SOFT, va="center")
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        top = 1 - (place["y"] + _HEAD) / rows
        if panel["type"] == "row":
            figure.text(0.01, top - 0.5 / rows, panel["title"], size=11, weight="bold", va="center")
            continue
        margin = 0.35 if panel["type"] == "stat" else 1.1
        axes = figure.add_axes(
            (
                (place["x"] + margin) / _COLUMNS,
                top - (place["h"] - 1.3) / rows,
                (place["w"] - margin - 0.3) / _COLUMNS,
                (place["h"] - 2.6) / rows,
            )
        )
        _panel(axes, panel, shift)
    figure.savefig(_PICTURE, dpi=80, facecolor=_GROUND)


def _panel(axes: Axes, panel: Mapping[str, Any], shift: Shift) -> None:
    axes.set_facecolor(_PANEL)
    axes.set_title(panel["title"], loc="left", size=9, color=_INK, y=1)
    axes.tick_params(colors=_SOFT, length=0)
    axes.set_xlim(shift.began, shift.ended)
    for spine in axes.spines.values():
        spine.set_visible(False)
    lines = [
        (_legend(target["legendFormat"], series), series)
        for target in panel["targets"]
        for series in shift.prometheus.query_range(
            _filled_in(target["expr"]), shift.began, shift.ended, _STEP
        )
    ]
    show = _figure if panel["type"] == "stat" else _chart
    show(axes, panel["fieldConfig"]["defaults"], lines)


def _figure(axes: Axes, look: Mapping[str, Any], lines: list[tuple[str, Series]]) -> None:
    write = _writer(look["unit"])
    axes.set_axis_off()
    text = "   ".join(
        f"{label} {write(series.points[-1][1])}" if len(lines) > 1 else write(series.points[-1][1])
        for label, series in lines
    )
    worst = max((series.points[-1][1] for _, series in lines), default=0.0)
    axes.text(0, 0.5, text or "no data", size=20, color=_threshold(look, worst), transform=axes.transAxes)
    for _, series in lines:
        axes.fill_between(*_with_gaps(series), color=_SOFT, alpha=0.25)
    axes.set_ylim(bottom=0)


def _threshold(look: Mapping[str, Any], value: float) -> str:
    steps = look["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return _NAMED[reached[-1]]


def _chart(axes: Axes, look: Mapping[str, Any], lines: list[tuple[str, Series]]) -> None:
    if look["custom"].get("stacking", {}).get("mode") == "normal":
        _stack(axes, lines)
    else:
        for label, series in lines:
            axes.plot(*_with_gaps(series), linewidth=1, label=label)
    write = _writer(look["unit"])
    axes.set_ylim(bottom=0, top=None if axes.dataLim.ymax > 0 else 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    axes.xaxis.set_major_formatter(FuncFormatter(_clock))
    axes.grid(visible=True, color=_GRID, linewidth=0.5)
    if lines:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.1),
            ncols=4,
            frameon=False,
            fontsize=7,
            labelcolor=_INK,
            handlelength=1,
            columnspacing=1,
        )


def _stack(axes: Axes, lines: list[tuple[str, Series]]) -> None:
    times = sorted({time for _, series in lines for time, _ in series.points})
    below = [0.0] * len(times)
    for label, series in lines:
        values = dict(series.points)
        top = [floor + values.get(time, 0.0) for time, floor in zip(times, below, strict=True)]
        (line,) = axes.plot(times, top, linewidth=1, label=label)
        axes.fill_between(times, below, top, color=line.get_color(), alpha=0.35)
        below = top


def _with_gaps(series: Series) -> tuple[list[float], list[float]]:
    """Times and values, with a break where there was nothing."""
    times: list[float] = []
    values: list[float] = []
    for time, value in series.points:
        if times and time - times[-1] > _STEP * 1.5:
            times.append(time - _STEP)
            values.append(math.nan)
        times.append(time)
        values.append(value)
    return times, values


def _clock(seconds: float, _: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def _filled_in(expression: str) -> str:
    everything = re.sub(r"\$(job|namespace|pod|instance)", ".*", expression)
    return everything.replace("$__rate_interval", _RATE_INTERVAL).replace("$__range", _RANGE)


def _legend(template: str, series: Series) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: series.labels.get(match[1], ""), template).strip()


def _writer(unit: str) -> Callable[[float], str]:
    """Return how Grafana writes values of that unit, approximately."""
    writers: Mapping[str, Callable[[float], str]] = {
        "bytes": _bytes,
        "binBps": lambda value: f"{_bytes(value)}/s",
        "percentunit": lambda value: f"{value:.1%}",
        "s": _seconds,
        "suffix: /s": lambda value: f"{value:.3g} /s",
    }
    return writers.get(unit, lambda value: f"{value:.3g}")


def _seconds(value: float) -> str:
    if value >= _DAY:
        return f"{value / _DAY:.3g} d"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def _bytes(count: float) -> str:
    unit, suffix = pick_unit_and_suffix(int(count), ["B", "KiB", "MiB", "GiB", "TiB"], 1024)
    return f"{count / unit:.3g} {suffix}"


if __name__ == "__main__":
    main()
