"""Generate parts of the Helm chart: its settings, its schema and its README."""

from pathlib import Path

from devkit.generate.chart import config, readme, schema, values


def derive(chart: Path) -> dict[Path, str]:
    """Return the generated files, made from the chart's values.yaml and the worker's settings.

    Args:
        chart: The chart's folder; nothing in it is written.

    Returns:
        The text of each file.
    """
    values_file, readme_file = chart / "values.yaml", chart / "README.md"
    text = _between(values_file.read_text(), "# BEGIN generated", "# END generated", config.block())
    group = values.read(text)
    return {
        values_file: text,
        chart / "values.schema.json": schema.make(group),
        readme_file: _between(
            readme_file.read_text(), "<!-- BEGIN generated", "<!-- END generated", readme.tables(group)
        ),
    }


def _between(text: str, begin: str, end: str, new: str) -> str:
    """Replace the lines between the one that starts with `begin` and the one that starts with `end`."""
    lines = text.splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if line.startswith(begin))
    last = next(number for number, line in enumerate(lines) if line.startswith(end))
    return "".join([*lines[: first + 1], new, *lines[last:]])
