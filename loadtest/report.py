"""What a test leaves behind: a table, JSON, Markdown, and plots."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.knee import Level, find_knee, list_levels
from loadtest.measurements import ALL, Figures, Measurements
from loadtest.plots import draw_levels, draw_time
from loadtest.verdict import BOUNDS, Judgement, find_figure

STAGES = ("tokenize", "queue", "infer", "decode")


@dataclass(frozen=True)
class Report:
    """A finished test: what was asked, what was measured, and whether it held."""

    about: dict[str, Any]
    measurements: Measurements
    judgements: Sequence[Judgement]

    @property
    def passed(self) -> bool:
        """Whether every bound held; without bounds, whether anything was asked and none failed."""
        total = self.measurements.total
        if not self.judgements:
            return total.requests > 0 and not total.failed
        return total.requests > total.failed and all(each.held for each in self.judgements)

    @property
    def levels(self) -> list[Level]:
        """What each number of users got."""
        return list_levels(self.measurements)

    def describe(self) -> dict[str, Any]:
        """Everything, as plain types."""
        levels = self.levels
        knee = find_knee(levels) if len(levels) > 1 else None
        tasks = {ALL: self.measurements.total, **self.measurements.tasks}
        return {
            "about": self.about,
            "passed": self.passed,
            "verdict": [
                {**asdict(each.bound), "measured": round(each.measured, 4), "held": each.held}
                for each in self.judgements
            ],
            "tasks": {name: self._describe_task(figures) for name, figures in tasks.items()},
            "levels": [asdict(level) for level in levels],
            "knee": asdict(knee) if knee else None,
        }

    def tell(self) -> str:
        """Figures and verdict as a text for a terminal."""
        content = self.describe()
        parts = [_lay_out(*_list_tasks(content))]
        if content["knee"]:
            knee = content["knee"]
            parts.append(
                f"Knee: {knee['users']} users get {knee['throughput']:.1f} requests a second "
                f"(p95 {knee['p95_ms']:.0f} ms); more users get little more."
            )
        if self.judgements:
            parts.append(_lay_out(*_list_verdict(content)))
        parts.append("PASS" if self.passed else "FAIL")
        return "\n\n".join(parts)

    def write(self, folder: Path) -> None:
        """report.json, report.md and, where there were several seconds, the plots."""
        folder.mkdir(parents=True, exist_ok=True)
        content = self.describe()
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        pictures = self._draw(folder)
        (folder / "report.md").write_text(_write_markdown(content, pictures), encoding="utf-8")

    def _draw(self, folder: Path) -> list[Path]:
        pictures = []
        if len(self.measurements.seconds) > 1:
            pictures.append(draw_time(self.measurements, folder / "time.png"))
        if len(self.levels) > 1:
            pictures.append(draw_levels(self.levels, folder / "levels.png"))
        return pictures

    def _describe_task(self, figures: Figures) -> dict[str, Any]:
        duration_s = self.measurements.duration_s
        return {
            "requests": figures.requests,
            "failed": figures.failed,
            "failures": dict(sorted(figures.failures.items(), key=lambda item: -item[1])),
            **{name: round(find_figure(figures, name, duration_s), 4) for name in BOUNDS},
            "mean_stages_ms": {
                stage: round(histogram.mean_ms, 3) for stage, histogram in figures.stages.items()
            },
        }


def _list_tasks(content: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    stages = [
        stage
        for stage in STAGES
        if any(stage in task["mean_stages_ms"] for task in content["tasks"].values())
    ]
    head = ["task", "requests", "failed", "a second", "p50 ms", "p95 ms", "p99 ms"]
    rows = []
    for name, task in content["tasks"].items():
        means = task["mean_stages_ms"]
        rows.append(
            [
                name,
                f"{task['requests']:,}",
                f"{task['failed']:,}",
                f"{task['throughput']:.1f}",
                *(f"{task[figure]:.1f}" for figure in ("p50_ms", "p95_ms", "p99_ms")),
                *(f"{means[stage]:.1f}" if stage in means else "-" for stage in stages),
            ]
        )
    return head + [f"{stage} ms" for stage in stages], rows


def _list_verdict(content: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            each["task"],
            each["figure"],
            f"{each['measured']:.4g}",
            f"{'at least' if BOUNDS[each['figure']][1] else 'at most'} {each['limit']:g}",
            "pass" if each["held"] else "FAIL",
        ]
        for each in content["verdict"]
    ]
    return ["task", "figure", "measured", "bound", "verdict"], rows


def _lay_out(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _write_markdown(content: dict[str, Any], pictures: Sequence[Path]) -> str:
    lines = ["# Load test", "", f"**{'PASS' if content['passed'] else 'FAIL'}**", ""]
    lines += [f"- {name}: {value}" for name, value in content["about"].items()]
    lines += ["", *_make_table(*_list_tasks(content))]
    failures = {
        (name, failure): count
        for name, task in content["tasks"].items()
        if name != ALL
        for failure, count in task["failures"].items()
    }
    if failures:
        rows = [[name, failure, f"{count:,}"] for (name, failure), count in failures.items()]
        lines += ["", *_make_table(["task", "failure", "times"], rows)]
    if content["verdict"]:
        lines += ["", *_make_table(*_list_verdict(content))]
    if content["knee"]:
        knee = content["knee"]
        lines += [
            "",
            f"Knee: {knee['users']} users, {knee['throughput']:.1f} requests a second, "
            f"p95 {knee['p95_ms']:.0f} ms.",
        ]
    lines += [f"\n![{picture.stem}]({picture.name})" for picture in pictures]
    return "\n".join(lines) + "\n"


def _make_table(head: list[str], rows: list[list[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [
        f"| {' | '.join(head)} |",
        f"|{'|'.join('---' for _ in head)}|",
        *(f"| {' | '.join(row)} |" for row in escaped),
    ]
