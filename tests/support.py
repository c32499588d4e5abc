"""docs/support.md, from the family rows and what the tests have found.

make test-slow && python -m tests.support
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.families import FAMILIES
from models.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "results"
ENGINES = RESULTS / "engines"
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
_COLUMNS = {"kernels": ("fp32", "int8", "bf16"), "openvino": ("fp32", "int8", "fp16")}
_ENGINES = """
## By engine

By the same command: vectors of 24 texts by the other engines, against ONNX Runtime's own in fp32.
fp32: the largest difference of vectors of length 1; the others: the worst cosine. The kernels'
answers are the same to the last bit alone and in company, in each precision. A dash: the engine has
no form of it, and the standard graph runs (padded layouts, MobileBERT), or it was not asked: the
last two have tests of their own (tests/export/architectures).

| family | kernels fp32 | int8 | bf16 | OpenVINO fp32 | int8 | fp16 |
|---|---|---|---|---|---|---|
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
    rivals = list(_show_engines())
    PAGE.write_text("\n".join([_HEAD.rstrip("\n"), *lines, _ENGINES.rstrip("\n"), *rivals]) + "\n")
    return 0


def _show_engines() -> Iterator[str]:
    """A row for each family: what each engine finds in each precision."""
    found: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for file in sorted(ENGINES.glob("*.json")):
        content = json.loads(file.read_text())
        found[content["family"], content["engine"]] = content["found"]
    for family in FAMILIES:
        cells = [family]
        for engine, precisions in _COLUMNS.items():
            row = found.get((family, engine), {})
            for precision in precisions:
                told = _tell(precision, *row[precision]) if precision in row else "–"
                cells.append(told)
        yield f"| {' | '.join(cells)} |"


def _tell(precision: str, difference: float, cosine: float) -> str:
    return f"{difference:.0e}" if precision == "fp32" else f"{cosine:.5f}"


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
