"""The golden answers of a bundle: the original's to a few short inputs, and how near is enough.

Owns which inputs those are and how they are batched. How one is written: cases.py. They are
computed again by models/golden.py.
"""

from collections.abc import Sequence
from typing import Any

from export.proof.cases import Case, Reference, find_case
from export.proof.original import References
from models.golden import LIMIT, measure_golden
from models.heads import Head
from models.pipeline import Pipeline

# Golden answers are computed whenever a service starts: a few dozen short inputs.
_CASES = 24
_TOKENS = 64
# Ten times fp16's rounding (2**-11), for the parts of vectors and for probabilities.
_LEAST = {"fp16": 5e-3}


def make_golden(answers: References, pipeline: Pipeline) -> dict[str, Any]:
    """The content of golden.json: inputs with the original's answers, and how to batch them.

    `batches` holds places in `cases`: the first few alone, the others packed together.
    """
    tasks = [
        _make_task(pipeline.find_head(source.task, source.name), find_case(source), references)
        for source, references in answers.heads
    ]
    return {"format_version": 1, "tasks": tasks}


def limit_golden(golden: dict[str, Any], pipeline: Pipeline) -> None:
    """Write down how far a narrow precision's golden answers may be from the original's.

    Twice what they are where the bundle is made: a processor on which it saturates is further off.
    In fp16 at least what a GPU may be off by, which rounds after each operation.
    """
    for task, deviation in zip(golden["tasks"], measure_golden(pipeline, golden), strict=True):
        least = _LEAST.get(pipeline.precision, LIMIT)
        limit = float(f"{min(1.0, max(least, 2 * deviation.largest)):.2g}")
        limits = task.setdefault("limits", {})
        limits[pipeline.precision] = max(limit, limits.get(pipeline.precision, 0.0))


def _make_task(
    head: Head[Any, Any, Any], case: Case, references: Sequence[Reference]
) -> dict[str, Any]:
    # Shorter than the longest: none that had to be cut.
    longest = min(_TOKENS, head.encoder.max_tokens - 1)
    short = [
        reference
        for reference in references
        if len(reference.ids) <= longest
        and (case.golden_pairs or isinstance(reference.item, str))
        and reference.asked is None
    ]
    cases = [
        {"input": reference.item, "answer": case.write_golden(head, reference)}
        for reference in short[:_CASES]
    ]
    alone = min(4, len(cases))
    batches = [[place] for place in range(alone)] + [list(range(alone, len(cases)))]
    return {
        "task": head.task.name,
        "head": head.entry.name,
        "cases": cases,
        "batches": [batch for batch in batches if batch],
    }
