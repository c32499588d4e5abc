"""Every family with every head it has, in every precision: exported, proven, written down.

A family's masked-LM checkpoint stands for it in every run; `make test-slow` takes all. Weights are
random, so a narrow precision may miss its threshold: then that is what the manifest says. What is
found goes into tests/results, from which `python -m tests.support` makes docs/support.md.
"""

import json
from pathlib import Path

import pytest
import transformers

from models.bundle.bundle import Bundle
from models.families import FAMILIES
from models.golden import check_golden
from models.pipeline import Pipeline
from tests.helpers.checkpoints import make_checkpoint, name_class
from tests.helpers.fixtures import EVERY_PRECISION
from tests.helpers.store import Store

RESULTS = Path(__file__).resolve().parents[1] / "results"
PRECISIONS = EVERY_PRECISION["precisions"]
ENDINGS = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
CELLS = [
    pytest.param(family, ending, id=f"{family}-{ending}", marks=[] if first else [pytest.mark.slow])
    for family in FAMILIES
    for ending in ENDINGS
    if hasattr(transformers, name_class(family, ending))
    for first in [ending == "ForMaskedLM"]
]


@pytest.mark.parametrize(("family", "ending"), CELLS)
def test_a_cell(family: str, ending: str, tmp_path: Path, exports: Store) -> None:
    source = tmp_path / "source"
    # Of vectors this wide, a byte's rounding is what it is in real ones.
    labels = {} if "Class" not in ending else {"labels": ["O", "B-X", "I-X"]}
    make_checkpoint(source, family, name_class(family, ending), **labels)
    bundle = Bundle.open(exports.export(source, family, **EVERY_PRECISION))
    manifest = bundle.manifest
    rows = manifest.parity
    assert {(row.task, row.precision) for row in rows} == {
        (task, precision) for task in manifest.tasks for precision in PRECISIONS
    }
    for row in rows:
        if row.precision == "fp32":
            assert row.limit is not None
            assert row.largest_difference <= row.limit
            assert not row.lossy
        elif row.task == "embed":
            assert row.worst_cosine is not None
            assert row.worst_cosine > {"fp16": 0.9999, "int8": 0.97}[row.precision]
    for precision in PRECISIONS:
        assert check_golden(Pipeline(bundle, precision=precision))
    RESULTS.mkdir(exist_ok=True)
    found = {"family": family, "ending": ending, "layout": manifest.layout}
    content = found | {"rows": [row.model_dump(mode="json") for row in rows]}
    (RESULTS / f"{family}-{ending}.json").write_text(json.dumps(content, indent=1) + "\n")
