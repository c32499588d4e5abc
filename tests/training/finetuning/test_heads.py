"""A head computes what transformers computes from the folder it was saved to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel

from training.finetuning.heads import ClassifyHead, encode_labels
from training.finetuning.labelled import LabelledTexts
from training.finetuning.texts import encode_texts, run_first

LABELS = ("red", "green", "blue")


@pytest.fixture
def trunk(tiny_config: BertConfig) -> BertModel:
    """A trunk with random weights."""
    torch.manual_seed(4)
    return BertModel(tiny_config).eval()


def make_head(trunk: BertModel, *, several: bool) -> ClassifyHead:
    """A head as training leaves it: nothing in it is as it was born."""
    torch.manual_seed(5)
    head = ClassifyHead(trunk, LABELS, several=several).eval()
    with torch.no_grad():
        for weight in head.parameters():
            weight.add_(torch.randn_like(weight)).copy_(weight.half())
    return head


@pytest.mark.parametrize("several", [False, True])
def test_a_saved_head_equals_transformers(
    trunk: BertModel, tokenizer: Tokenizer, tmp_path: Path, *, several: bool
) -> None:
    head = make_head(trunk, several=several)
    head.save(tmp_path / "heads" / "colour", trunk.config)
    folder = tmp_path / "heads" / "colour"
    config = BertConfig.from_pretrained(folder)
    kind = "multi_label_classification" if several else "single_label_classification"
    assert (config.problem_type, list(config.id2label.values())) == (kind, list(LABELS))
    model = BertForSequenceClassification(config).eval()
    model.bert.load_state_dict(trunk.state_dict())
    own = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in own.values()} == {torch.float16}
    loaded = model.load_state_dict({k: v.float() for k, v in own.items()}, strict=False)
    assert not loaded.unexpected_keys
    encoded = encode_texts(tokenizer, ["The ship", "a barn and a cow", "judge"])
    with torch.no_grad():
        found = head(run_first(trunk, encoded))
        for place, ids in enumerate(encoded):
            wanted = model(torch.from_numpy(ids)[None]).logits[0]
            torch.testing.assert_close(found[place], wanted, atol=1e-5, rtol=0)


def test_a_new_head_has_the_poolers_knowledge_of_its_own(trunk: BertModel) -> None:
    head = ClassifyHead(trunk, LABELS, several=False)
    assert torch.equal(head.pooler.weight, trunk.pooler.dense.weight)
    with torch.no_grad():
        head.pooler.weight.zero_()
    assert trunk.pooler.dense.weight.abs().sum() > 0


def test_the_trunks_config_stays_as_it_is(trunk: BertModel, tmp_path: Path) -> None:
    trunk.config.head_names = ["colour"]
    before = trunk.config.to_dict()
    ClassifyHead(trunk, LABELS, several=False).save(tmp_path / "colour", trunk.config)
    assert trunk.config.to_dict() == before
    assert not hasattr(BertConfig.from_pretrained(tmp_path / "colour"), "head_names")


def test_labels_as_numbers_or_as_a_table() -> None:
    one = LabelledTexts(("x", "y"), ((2,), (0,)), LABELS)
    assert encode_labels(one, several=False).tolist() == [2, 0]
    many = LabelledTexts(("x", "y"), ((2, 0), (1,)), LABELS)
    assert encode_labels(many, several=True).tolist() == [[1, 0, 1], [0, 1, 0]]
