"""What a run found: written as JSON, and shown as tables with the targets beside the figures.

Owns benchmarks/results/, which is not committed.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"
_PACKAGES = ("onnxruntime", "tokenizers", "numpy", "uvicorn", "fastapi")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a figure: at least so much or, with `most`, at most so much."""

    bound: float
    most: bool = False

    def met_by(self, figure: float) -> bool:
        """Whether the figure is within the bound."""
        return figure <= self.bound if self.most else figure >= self.bound

    def judge(self, figure: float) -> str:
        """The target as a cell of a table, with a word for whether it is met."""
        word = "[green]met[/]" if self.met_by(figure) else "[red]missed[/]"
        return f"{'≤' if self.most else '≥'} {self.bound:g}  {word}"


def divide(upper: Sequence[float], lower: Sequence[float]) -> dict[str, float]:
    """The ratio of two series round by round: its median, least and most."""
    ratios = [one / other for one, other in zip(upper, lower, strict=True)]
    return {"median": median(ratios), "least": min(ratios), "most": max(ratios)}


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold", box=rich.box.SIMPLE)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    say(table)


def say(what: Any) -> None:
    """Print a line or a table, never narrower than 100 columns."""
    Console(width=max(100, Console().width), highlight=False).print(what)


def save_results(name: str, figures: Mapping[str, Any]) -> Path:
    """Write the figures with the machine they were measured on, and return the file."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    content = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        **figures,
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
    return file


def describe_machine() -> dict[str, Any]:
    """The processor, the cores this process may use, and the versions that decide its speed."""
    return {
        "processor": _read_processor(),
        "cores": _count_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in _PACKAGES},
    }


def _count_cores() -> int:
    """Those of the affinity mask; of the machine where the system has no masks."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
