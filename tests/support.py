"""docs/support.md, from the family rows and what the tests have found.

make test-slow && python -m tests.support
"""

import json
import sys
from pathlib import Path
from typing import Any

from models.families import FAMILIES
from models.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "results"
PAGE = ROOT / "docs" / "support.md"
_HEAD = """\
# What can be exported

By `make test-slow && python -m tests.support`: each family of
[models/families.py](../models/families.py) with each head that transformers has for it, as a tiny
checkpoint with random weights, exported in each precision and proven against transformers, or
against the exporter's own class where transformers has none.

fp32: the largest difference of hidden states (embed) or logits, relative to the largest value.
int8 and fp16: the worst cosine of vectors (embed), or how often the best answer is the original's.
Random weights make near ties, which trained ones rarely have; a figure in italics missed its
threshold, so that only `--accept-loss` writes it.

| family | layout | task | fp32 | int8 | fp16 |
|---|---|---|---|---|---|
"""


def main() -> int:
    """Write the page; 1 where a cell has no result."""
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for file in sorted(RESULTS.glob("*.json")):
        content = json.loads(file.read_text())
        for row in content["rows"]:
            cells.setdefault((content["family"], row["task"]), {})[row["precision"]] = row
    lines = []
    for family in FAMILIES.values():
        tasks = [task for task in TASKS if (family.name, task) in cells]
        if not tasks:
            sys.stderr.write(f"error: no result of {family.name}; run make test-slow first\n")
            return 1
        for task in tasks:
            rows = cells[family.name, task]
            figures = [_show(rows[precision]) for precision in ("fp32", "int8", "fp16")]
            cell = (family.name, family.layout) if task == tasks[0] else ("", "")
            lines.append(f"| {' | '.join([*cell, task, *figures])} |")
    PAGE.write_text(_HEAD + "\n".join(lines) + "\n")
    return 0


def _show(row: dict[str, Any]) -> str:
    if row["precision"] == "fp32":
        return f"{row['largest_difference'] / max(1.0, row['largest_value']):.0e}"
    agreement = row["label_agreement"] if row["top1_agreement"] is None else row["top1_agreement"]
    if row["worst_cosine"] is not None:
        text = f"{row['worst_cosine']:.4f}"
    else:
        text = "-" if agreement is None else f"{agreement:.1%}"
    return f"*{text}*" if row["lossy"] else text


if __name__ == "__main__":
    sys.exit(main())
