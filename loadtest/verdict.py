"""Whether a test held: bounds by task, against what was measured."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtest.measurements import ALL, Figures, Measurements

# Figure -> (unit, whether it must be at least the bound, not at most).
BOUNDS = {
    "p50_ms": ("ms", False),
    "p95_ms": ("ms", False),
    "p99_ms": ("ms", False),
    "error_rate": ("", False),
    "throughput": ("/s", True),
}


class WrongBound(Exception):
    """A bound that cannot be understood; says which, and what one looks like."""


@dataclass(frozen=True)
class Bound:
    """One promise: a figure of a task, or of `all` of them, and its limit."""

    task: str
    figure: str
    limit: float


@dataclass(frozen=True)
class Judgement:
    """A bound and what was measured."""

    bound: Bound
    measured: float
    held: bool


def read_bounds(file: Path, tasks: Iterable[str]) -> list[Bound]:
    """The bounds in a TOML file: a table a task (or `all`), a figure a line."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WrongBound(f"{file} is not there; name another file with --slo-file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongBound(f"{file} is not TOML: {error}") from None
    bounds = []
    for task, figures in content.items():
        if not isinstance(figures, Mapping):
            raise WrongBound(f"{file}: {task} stands outside a table; write [all] above it")
        bounds += [
            make_bound(task, figure, limit, tasks, str(file)) for figure, limit in figures.items()
        ]
    return bounds


def parse_bound(text: str, tasks: Iterable[str]) -> Bound:
    """A bound as an option gives it: `p95_ms=200`, or `embed.p95_ms=200`."""
    name, equals, limit = text.partition("=")
    task, dot, figure = name.strip().rpartition(".")
    if not equals:
        raise WrongBound(f"--slo {text!r} has no limit; write it like embed.p95_ms=200")
    return make_bound(task if dot else ALL, figure, limit, tasks, f"--slo {text!r}")


def make_bound(task: str, figure: str, limit: object, tasks: Iterable[str], where: str) -> Bound:
    """A bound on a known figure of a known task. Raises WrongBound."""
    known = (ALL, *tasks)
    if task not in known:
        raise WrongBound(f"{where}: {task!r} is no task; there are {', '.join(known)}")
    if figure not in BOUNDS:
        raise WrongBound(f"{where}: {figure!r} is no figure; there are {', '.join(BOUNDS)}")
    try:
        number = float(str(limit))
    except ValueError:
        number = float("nan")
    if not number >= 0:
        raise WrongBound(f"{where}: {limit!r} is no limit for {figure}; give a number from 0")
    return Bound(task, figure, number)


def judge(measurements: Measurements, bounds: Iterable[Bound]) -> list[Judgement]:
    """Each bound with what was measured. A task that was never asked has held nothing."""
    judgements = []
    for bound in bounds:
        whole = bound.task == ALL
        figures = measurements.total if whole else measurements.tasks.get(bound.task, Figures())
        measured = find_figure(figures, bound.figure, measurements.duration_s)
        at_least = BOUNDS[bound.figure][1]
        within = measured >= bound.limit if at_least else measured <= bound.limit
        judgements.append(Judgement(bound, measured, within and figures.requests > 0))
    return judgements


def find_figure(figures: Figures, name: str, duration_s: float) -> float:
    """A figure by name: milliseconds, a rate from 0 to 1, or requests a second that succeeded."""
    if name == "error_rate":
        return figures.error_rate
    if name == "throughput":
        return (figures.requests - figures.failed) / duration_s
    return figures.response.find_percentile(float(name[1:3]) / 100)
