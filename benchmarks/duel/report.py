"""The duel as tables, with the targets beside the figures, and as a picture."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.duel.measure import CONNECTIONS, MANY, Found
from benchmarks.duel.rivals import REFERENCE
from benchmarks.results import Target, divide
from benchmarks.texts import KINDS

# Requests a second of Cloze in a precision over those of a rival: by connections and kind of text.
TARGETS: Mapping[tuple[str, str, int], tuple[float, float, float]] = {
    ("cloze fp32", REFERENCE, 16): (3.5, 2.2, 1.3),
    ("cloze int8", REFERENCE, 16): (5, 5, 3.3),
    ("cloze int8", "ctranslate2 int8", 16): (1.8, 2.2, 2.2),
    ("cloze int8", "vllm bf16", 16): (1.8, 1.9, 1.8),
    ("cloze bf16", "vllm bf16", 16): (1.3, 1.3, 1.2),
    ("cloze fp32", "fastembed", 1): (1.0, 1.1, 1.05),
}
Rows = list[tuple[str, ...]]
# Of a terminal, which a page has none of.
_STYLES = re.compile(r"\[/?(?:green|red)?\]")
_COLUMNS = [(kind.name, connections) for kind in KINDS for connections in CONNECTIONS]


def list_rates(found: Mapping[str, Found]) -> tuple[tuple[str, ...], Rows]:
    """Medians of the rounds, a row a server."""
    head = (
        "server",
        *(f"{kind}, {connections}" for kind, connections in _COLUMNS),
        f"{MANY} at once",
        "memory, MB",
        "ready, s",
        "worst cosine",
    )
    rows: Rows = [
        (
            name,
            *(f"{median(each.rates[case]):,.0f}" for case in _COLUMNS),
            f"{median(each.many):,.0f}",
            f"{median(each.memory_mb):,.0f}",
            f"{median(each.ready_s):.1f}",
            f"{each.worst_cosine:.5f}",
        )
        for name, each in found.items()
    ]
    return head, rows


def list_targets(found: Mapping[str, Found]) -> tuple[tuple[str, ...], Rows]:
    """The ratios that there are targets for, of who took part."""
    rows: Rows = []
    for (ours, other, connections), bounds in TARGETS.items():
        for kind, bound in zip(KINDS, bounds, strict=True):
            if ours not in found or other not in found:
                continue
            case = kind.name, connections
            ratio = divide(found[ours].rates[case], found[other].rates[case])
            rows.append(
                (
                    f"{ours} / {other}, {kind.name}, {connections}",
                    f"{ratio['median']:.2f}",
                    f"{ratio['least']:.2f} to {ratio['most']:.2f}",
                    Target(bound).judge(ratio["median"]),
                )
            )
    return ("servers, texts, connections", "ratio", "least to most", "target"), rows


def write_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its figures on the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return _STYLES.sub("", text)


def draw(found: Mapping[str, Found], file: Path) -> None:
    """Requests a second at 16 connections, a panel a kind of texts."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    picture, panels = plt.subplots(
        1, len(KINDS), figsize=(12, 0.35 * len(found) + 1.2), sharey=True
    )
    names = list(found)[::-1]
    for panel, kind in zip(panels, KINDS, strict=True):
        rates = [median(found[name].rates[kind.name, 16]) for name in names]
        colors = ["tab:blue" if name.startswith("cloze") else "tab:gray" for name in names]
        bars = panel.barh(names, rates, color=colors)
        panel.bar_label(bars, fmt="%.0f", padding=2, fontsize=8)
        panel.set_title(f"{kind.name} texts, 16 connections", fontsize=10)
        panel.set_xlabel("requests a second")
        panel.margins(x=0.15)
    picture.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(file, dpi=110)
    plt.close(picture)
