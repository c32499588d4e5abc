"""A head's graph gives the checkpoint's own logits for rows it has never seen together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.reading.checkpoint import load_checkpoint
from models.engines.onnx_runtime import OnnxRuntimeSession
from tests.helpers.checkpoints import EACH_FAMILY, ENTITIES, has_class
from tests.helpers.fixtures import Export


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_vocabulary_for_any_number_of_rows(exported: Export, family: str) -> None:
    pair = exported(family, "ForMaskedLM")
    session = OnnxRuntimeSession(pair.bundle / "head.fill-mask.onnx", threads=1)
    size = pair.pipeline.manifest.vocabulary_size
    hidden = pair.original.hidden("the king of france is cold")
    wanted = pair.original.logits("the king of france is cold")
    for rows in (1, 2, len(hidden)):
        found = session.run({"hidden": hidden[:rows]}).whole()
        assert found.shape == (rows, size)
        np.testing.assert_allclose(found, wanted[:rows], atol=2e-5)


@pytest.mark.parametrize("family", EACH_FAMILY)
@pytest.mark.parametrize(
    ("ending", "task", "outputs"),
    [
        ("ForTokenClassification", "token-classify", ("logits",)),
        ("ForQuestionAnswering", "answer", ("start_logits", "end_logits")),
    ],
)
def test_every_row_by_itself(
    exported_head: Export, family: str, ending: str, task: str, outputs: tuple[str, ...]
) -> None:
    if not has_class(family, ending):
        pytest.skip("transformers has no such class")
    pair = exported_head(family, ending)
    file = pair.pipeline.find_head(task).entry.file
    session = OnnxRuntimeSession(pair.bundle / str(file), threads=1)
    text = "the king of france is cold"
    hidden = pair.original.hidden(text)
    columns = [pair.original.logits(text, output) for output in outputs]
    wanted = columns[0] if len(columns) == 1 else np.stack(columns, axis=-1)
    for rows in (slice(0, 1), slice(3, 5), slice(None, None, -1)):
        found = session.run({"hidden": hidden[rows]}).whole()
        assert found.shape == (len(hidden[rows]), 2 if task == "answer" else len(ENTITIES))
        np.testing.assert_allclose(found, wanted[rows], atol=2e-5)


def test_the_checkpoint_is_whole_again_afterwards(pretraining_source: Path, tmp_path: Path) -> None:
    from export.graphs.head import export_head

    checkpoint = load_checkpoint(str(pretraining_source))
    head = checkpoint.heads[1]
    ids = torch.tensor([[2, 7, 3]])
    before = head.read_logits(head.model(input_ids=ids))
    export_head(head, checkpoint.family, tmp_path / "head.onnx")
    assert head.model.base_model is checkpoint.trunk
    assert torch.equal(head.read_logits(head.model(input_ids=ids)), before)
