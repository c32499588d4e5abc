"""Every family with every head it has, in every precision: exported, proven, written down.

A family's masked-LM checkpoint stands for it in every run; `make test-slow` takes all. Weights are
random, so a narrow precision may miss its threshold: then that is what the manifest says. What is
found goes into tests/results, from which `python -m tests.support` makes docs/support.md.
"""

from pathlib import Path

import pytest

from models.bundle.bundle import Bundle
from models.golden import check_golden
from models.pipeline import Pipeline
from tests.helpers import checkpoints
from tests.helpers.checkpoints import has_class, make_checkpoint, name_class
from tests.helpers.fixtures import EVERY_PRECISION
from tests.helpers.results import record
from tests.helpers.store import Store

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
    for family in checkpoints.FAMILIES
    for ending in ENDINGS
    if has_class(family, ending)
    for first in [ending == "ForMaskedLM" and family not in checkpoints.ALIKE]
]


@pytest.mark.parametrize(("family", "ending"), CELLS)
def test_a_cell(family: str, ending: str, tmp_path: Path, exports: Store) -> None:
    source = tmp_path / "source"
    # Of vectors this wide, a byte's rounding is what it is in real ones.
    labels = {} if "Class" not in ending else {"labels": ["O", "B-X", "I-X"]}
    make_checkpoint(source, family, name_class(family, ending), **labels)
    bundle = Bundle.open(exports.export(source, family, **EVERY_PRECISION))
    manifest = bundle.manifest
    record(manifest, ending)
    for precision in PRECISIONS:
        assert check_golden(Pipeline(bundle, precision=precision))
