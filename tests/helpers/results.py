"""What is found of each family with each head: `python -m tests.support` makes a page of it."""

import json
from collections.abc import Mapping
from pathlib import Path

from models.bundle.manifest import Manifest

RESULTS = Path(__file__).resolve().parents[1] / "results"
ENGINES = RESULTS / "engines"
# Of a tiny checkpoint's vectors.
_LEAST = {"fp16": 0.9999, "int8": 0.97}


def record(manifest: Manifest, ending: str) -> None:
    """Check the figures of a bundle's proof, of every task in every precision, and keep them."""
    rows = manifest.parity
    assert {(row.task, row.precision) for row in rows} == {
        (task, precision) for task in manifest.tasks for precision in manifest.precisions
    }
    for row in rows:
        if row.precision == "fp32":
            assert row.limit is not None
            assert row.largest_difference <= row.limit
            assert not row.lossy
        elif row.task == "embed":
            assert row.worst_cosine is not None
            assert row.worst_cosine > _LEAST[row.precision]
    RESULTS.mkdir(exist_ok=True)
    found = {"family": manifest.family, "ending": ending, "layout": manifest.layout}
    content = found | {"rows": [row.model_dump(mode="json") for row in rows]}
    file = RESULTS / f"{manifest.family}-{ending}.json"
    file.write_text(json.dumps(content, indent=1) + "\n")


def record_engine(family: str, engine: str, found: Mapping[str, tuple[float, float]]) -> None:
    """Keep, for each precision, how far an engine's vectors are from the plain one's in fp32.

    The largest difference, of vectors of length 1, and the worst cosine.
    """
    ENGINES.mkdir(parents=True, exist_ok=True)
    content = {"family": family, "engine": engine, "found": found}
    file = ENGINES / f"{family}-{engine}.json"
    file.write_text(json.dumps(content, indent=1) + "\n")
