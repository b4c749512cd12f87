"""Files and tables: one JSON a bar, one Markdown page of all bars that were measured."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.bars import Row
from neurometamer.store import read_json, write_json, write_text

_PACKAGES = (
    "neurometamer",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "plenoptic",
    "foolbox",
    "torchattacks",
    "torchmetrics",
    "pingouin",
    "rsatoolbox",
    "scipy",
)


def machine() -> dict[str, Any]:
    """Describe where the numbers come from."""
    import torch

    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "unknown",
    )


def store(folder: Path, bar: str, title: str, rows: Sequence[Row], **told: Any) -> Path:
    """Write one bar's numbers as JSON, and the page of all bars anew."""
    found = [{**asdict(row), "met": row.met, "verdict": row.verdict} for row in rows]
    content = {
        "bar": bar,
        "title": title,
        "rows": found,
        "measured": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 2),
        "machine": machine(),
        **told,
    }
    path = write_json(folder / "results" / f"{bar}.json", content)
    write_text(folder / "RESULTS.md", page([read_json(one) for one in _in_order(folder)]))
    return path


def _in_order(folder: Path) -> list[Path]:
    from benchmarks.registry import BARS

    there = {one.stem: one for one in (folder / "results").glob("*.json")}
    return [there[name] for name in BARS if name in there]


def number(value: float | None) -> str:
    """Write a number with three or four figures."""
    if value is None:
        return "—"
    if value == 0 or (math.isfinite(value) and abs(value) >= 1000):
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"


def page(results: Sequence[dict[str, Any]]) -> str:
    """Make the Markdown page."""
    lines = [
        "# Measured bars",
        "",
        "Made by `make bench`; what each number means is in [README.md](README.md).",
        "",
    ]
    summary = ["| bar | what | met |", "|---|---|---|"]
    details: list[str] = []
    for one in results:
        judged = [row for row in one["rows"] if row["met"] is not None]
        lacking = sum(row["value"] is None for row in one["rows"])
        met = f"{sum(row['met'] for row in judged)} of {len(judged)}" if judged else "information"
        met += f"; {lacking} not available" if lacking else ""
        summary.append(
            f"| {one['bar']} | {one['title']}{' (quick run)' if one['quick'] else ''} | {met} |"
        )
        details += _section(one)
    return "\n".join([*lines, *summary, "", *details])


def _section(one: dict[str, Any]) -> list[str]:
    there = one["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in there["versions"].items())
    lines = [
        f"## {one['bar']}: {one['title']}",
        "",
        f"{one['measured']}{', quick run, not to be quoted' if one['quick'] else ''}; "
        f"{there['processor']}, "
        f"{there['cores']} cores, {there['threads']} threads, {there['instructions']}, load "
        f"{one['load']}; "
        f"Python {there['python']}, {versions}; took {one['wall_s']:.0f} s ({one['cpu_s']:.0f} CPU "
        "s).",
        "",
        "| what | value | unit | bound | verdict | note |",
        "|---|---|---|---|---|---|",
    ]
    for row in one["rows"]:
        bound = "" if row["bound"] is None else f"{row['sense']} {number(row['bound'])}"
        note = row["note"].replace("|", "/").replace("\n", " ")
        lines.append(
            f"| {row['what']} | {number(row['value'])} | {row['unit']} | {bound} | "
            f"{row['verdict']} | {note} |"
        )
    return [*lines, ""]


def show(bar: str, title: str, rows: Sequence[Row]) -> None:
    """Print one bar's numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{bar}: {title}", title_justify="left")
    for name in ("what", "value", "unit", "bound", "verdict", "note"):
        table.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
    for row in rows:
        bound = "" if row.bound is None else f"{row.sense} {number(row.bound)}"
        style = "red" if row.met is False else "green" if row.met else None
        table.add_row(
            row.what, number(row.value), row.unit, bound, row.verdict, row.note, style=style
        )
    Console(width=max(160, Console().width)).print(table)
