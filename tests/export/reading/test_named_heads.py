"""Heads in folders of their own come in their checkpoint's order, and stand on its trunk."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification, BertModel

from export.errors import SourceError, UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from tests.helpers.checkpoints import add_head, change_json, make_checkpoint

LABELS = ("bad", "good")


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["topics", "sentiment"], ["topics", "sentiment", "mood"]),
        (["topics", "mood", "sentiment"], ["topics", "mood", "sentiment"]),
        ([], ["mood", "sentiment", "topics"]),
        (None, ["mood", "sentiment", "topics"]),
    ],
)
def test_heads_come_in_the_order_of_head_names(
    heads_source: Path, tmp_path: Path, names: Any, order: list[str]
) -> None:
    """Others come after them, by name."""
    folder = Path(shutil.copytree(heads_source, tmp_path / "source"))
    add_head(folder, "mood", "BertForSequenceClassification", labels=["x", "y"])
    change_json(folder / "config.json", head_names=names)
    assert [head.name for head in load_checkpoint(str(folder)).heads] == order


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["gone", "sentiment"], "names the head 'gone'"),
        ("topics", "head_names that are not a list of names"),
        ([["topics"], 5], "head_names that are not a list of names"),
    ],
)
def test_names_that_give_no_order_are_refused(
    heads_source: Path, tmp_path: Path, names: Any, told: str
) -> None:
    folder = Path(shutil.copytree(heads_source, tmp_path / "source"))
    change_json(folder / "config.json", head_names=names)
    with pytest.raises(SourceError, match=told):
        load_checkpoint(str(folder))


def put_whole(folder: Path, name: str, *, seed: int) -> Path:
    """A classifier as `save_pretrained` leaves it, trunk and all, under heads/<name>/."""
    named = "BertForSequenceClassification"
    return make_checkpoint(folder / "heads" / name, "bert", named, seed=seed, labels=LABELS)


def share_trunk(folder: Path, head: Path) -> dict[str, torch.Tensor]:
    """Put the checkpoint's own trunk under the head's; all the weights that its file then holds."""
    trunk = {f"bert.{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    weights = load_file(head / "model.safetensors")
    weights |= {key: value for key, value in trunk.items() if "pooler" not in key}
    save_file(weights, head / "model.safetensors", metadata={"format": "pt"})
    return weights


def test_a_head_on_another_trunk_is_refused(tmp_path: Path) -> None:
    """Two whole models, each fine-tuned by itself, have no trunk in common."""
    folder = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    head = put_whole(folder, "mood", seed=1)
    trunk = BertModel.from_pretrained(folder).state_dict()
    other = BertForSequenceClassification.from_pretrained(head).bert.state_dict()
    with pytest.raises(UnsupportedModel, match="than it was trained; export") as refusal:
        load_checkpoint(str(folder))
    said = refusal.value.message
    assert said.startswith(f"{head / 'model.safetensors'} holds bert.")
    assert f"export {head} as a bundle of its own" in said
    name = said.split(" holds bert.")[1].split()[0]
    assert f"by {(trunk[name] - other[name]).abs().max().item():.2g}: " in said


def test_one_tensor_that_was_trained_further_is_found(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    head = put_whole(folder, "mood", seed=1)
    name = "bert.encoder.layer.1.output.dense.bias"
    weights = share_trunk(folder, head)
    for value, how in (
        (weights[name] + 0.25, "otherwise than the trunk has it, by 0.25"),
        (weights[name] * float("nan"), "otherwise than the trunk has it, by nan"),
        (torch.zeros(31), r"as \[31\], and the trunk has \[32\]"),
    ):
        file = head / "model.safetensors"
        save_file(weights | {name: value}, file, metadata={"format": "pt"})
        with pytest.raises(UnsupportedModel, match=f"{name} {how}"):
            load_checkpoint(str(folder))


def test_a_head_may_hold_its_trunk_again(tmp_path: Path) -> None:
    """Also as older versions of transformers saved it, with the numbers of its positions."""
    folder = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    head = put_whole(folder, "mood", seed=1)
    numbers = {"bert.embeddings.position_ids": torch.arange(64)[None]}
    weights = share_trunk(folder, head) | numbers
    save_file(weights, head / "model.safetensors", metadata={"format": "pt"})
    whole = BertForSequenceClassification.from_pretrained(head).eval()
    ids = torch.tensor([[2, 7, 9, 11, 3]])
    [mood] = load_checkpoint(str(folder)).heads
    with torch.inference_mode():
        wanted, found = whole(input_ids=ids).logits, mood.model(input_ids=ids).logits
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("changes", [{"num_attention_heads": 2}, {"layer_norm_eps": 0.1}])
def test_a_head_whose_config_computes_another_trunk(
    heads_source: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(heads_source, tmp_path / "source"))
    change_json(folder / "heads" / "topics" / "config.json", **changes)
    with pytest.raises(SourceError, match=f"has another {next(iter(changes))} than the trunk"):
        load_checkpoint(str(folder))
