"""What is written opens in transformers, in sentence-transformers and in the exporter."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
)

from export.reading.checkpoint import load_checkpoint
from models.bundle.bundle import Bundle
from tests.training.disk import full_disk
from training.checkpoint import save_checkpoint
from training.errors import StorageFull
from training.finetuning.heads import ClassifyHead

TEXTS = ("The ship met the wave.", "a barn", "In the morning the judge met the law again.")


def make_model(config: BertConfig) -> BertForPreTraining:
    torch.manual_seed(2)
    return BertForPreTraining(config).eval()


def make_heads(model: BertForPreTraining) -> dict[str, ClassifyHead]:
    """Two heads whose order is not that of their names."""
    return {
        "tone": ClassifyHead(model.bert, ("cold", "warm"), several=False),
        "parts": ClassifyHead(model.bert, ("c", "b", "a"), several=True),
    }


@pytest.fixture
def plain(tiny_config: BertConfig, vocabulary: Path, tmp_path: Path) -> Path:
    """A checkpoint as pre-training leaves it."""
    save_checkpoint(make_model(tiny_config), vocabulary, tmp_path / "plain")
    return tmp_path / "plain"


@pytest.fixture
def headed(tiny_config: BertConfig, vocabulary: Path, tmp_path: Path) -> Path:
    """A checkpoint as fine-tuning leaves it."""
    model = make_model(tiny_config)
    save_checkpoint(model, vocabulary, tmp_path / "headed", make_heads(model))
    return tmp_path / "headed"


def test_transformers_opens_it(plain: Path, tiny_config: BertConfig) -> None:
    model = BertForPreTraining.from_pretrained(plain)
    wanted = make_model(tiny_config).state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, wanted[name]), name
    tokenizer = AutoTokenizer.from_pretrained(plain)
    assert tokenizer("The ship")["input_ids"][0] == 2
    assert tokenizer.mask_token_id == 4
    assert tokenizer.model_max_length == 128
    assert not list(plain.glob("heads/*"))
    assert not (plain / "modules.json").exists()


def test_with_heads_it_is_in_half_precision(headed: Path, tiny_config: BertConfig) -> None:
    model = AutoModel.from_pretrained(headed)
    wanted = make_model(tiny_config).bert.state_dict()
    for name, weight in model.state_dict().items():
        assert weight.dtype == torch.float16
        assert torch.equal(weight, wanted[name].half()), name


def test_heads_open_in_transformers(headed: Path) -> None:
    config = BertConfig.from_pretrained(headed / "heads" / "tone")
    assert config.architectures == ["BertForSequenceClassification"]
    assert config.id2label == {0: "cold", 1: "warm"}
    assert config.problem_type == "single_label_classification"
    other = BertConfig.from_pretrained(headed / "heads" / "parts")
    assert other.label2id == {"c": 0, "b": 1, "a": 2}
    assert other.problem_type == "multi_label_classification"
    assert BertForSequenceClassification(config).num_labels == 2


def test_the_exporter_reads_its_heads_in_their_order(headed: Path) -> None:
    assert json.loads((headed / "config.json").read_text())["head_names"] == ["tone", "parts"]
    heads = [(head.task, head.name) for head in load_checkpoint(str(headed)).heads]
    assert heads == [
        ("fill-mask", None),
        ("next-sentence", None),
        ("classify", "tone"),
        ("classify", "parts"),
    ]


def test_a_bundle_has_its_heads_in_that_order_too(bundle: Path, finetuned: Path) -> None:
    names = json.loads((finetuned / "checkpoint/config.json").read_text())["head_names"]
    heads = Bundle.open(bundle).manifest.heads
    assert [head.name for head in heads if head.name is not None] == names
    assert names != sorted(names)


def test_sentence_transformers_pools_as_we_do(headed: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        from sentence_transformers import SentenceTransformer

        found = SentenceTransformer(str(headed), device="cpu")
    assert [type(module).__name__ for module in found] == ["Transformer", "Pooling", "Normalize"]
    assert found.max_seq_length == 128
    model, tokenizer = AutoModel.from_pretrained(headed), AutoTokenizer.from_pretrained(headed)
    vectors = found.float().encode(list(TEXTS), show_progress_bar=False)
    for text, vector in zip(TEXTS, vectors, strict=True):
        with torch.no_grad():
            hidden = model.float()(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = hidden.mean(0)
        np.testing.assert_allclose(vector, mean / mean.norm(), atol=1e-5)


def test_the_one_before_is_replaced(plain: Path, tiny_config: BertConfig, vocabulary: Path) -> None:
    (plain / "leftover.txt").write_text("")
    model = make_model(tiny_config)
    with torch.no_grad():
        model.bert.pooler.dense.bias.fill_(3.0)
    save_checkpoint(model, vocabulary, plain)
    assert not (plain / "leftover.txt").exists()
    assert AutoModel.from_pretrained(plain).pooler.dense.bias[0] == 3.0
    assert [path.name for path in plain.parent.iterdir()] == ["plain"]


def test_a_full_disk_leaves_the_one_before(
    plain: Path, tiny_config: BertConfig, vocabulary: Path
) -> None:
    before = (plain / "model.safetensors").read_bytes()
    with full_disk(20_000), pytest.raises(StorageFull, match="plain could not be written"):
        save_checkpoint(make_model(tiny_config), vocabulary, plain)
    assert (plain / "model.safetensors").read_bytes() == before
    assert [path.name for path in plain.parent.iterdir()] == ["plain"]
