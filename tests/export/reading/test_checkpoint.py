"""Checkpoints as they are found in the wild load as transformers loads them, or say why not."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from export.errors import SourceError
from export.reading.checkpoint import Checkpoint, load_checkpoint
from export.reading.files import find_source
from tests.helpers.checkpoints import (
    EACH_FAMILY,
    add_head,
    change_json,
    has_class,
    make_checkpoint,
    name_class,
    write_json,
)


def rewrite(folder: Path, change: Any) -> None:
    """Put other weights into a checkpoint."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def tasks(checkpoint: Checkpoint) -> list[tuple[str, str | None]]:
    return [(head.task, head.name) for head in checkpoint.heads]


@pytest.mark.parametrize("family", EACH_FAMILY)
def test_heads_of_every_class(tmp_path: Path, family: str) -> None:
    endings = {
        "Model": [],
        "ForMaskedLM": [("fill-mask", None)],
        "ForSequenceClassification": [("classify", None)],
        "ForTokenClassification": [("token-classify", None)],
        "ForQuestionAnswering": [("answer", None)],
        "ForMultipleChoice": [],
    }
    if family in ("bert", "mobilebert", "ernie"):
        endings["ForNextSentencePrediction"] = [("next-sentence", None)]
        endings["ForPreTraining"] = [("fill-mask", None), ("next-sentence", None)]
    if family in ("albert", "megatron-bert", "big_bird"):
        endings["ForPreTraining"] = [("fill-mask", None)]
    if family == "electra":
        endings["ForPreTraining"] = []
    for ending, wanted in endings.items():
        if not has_class(family, ending):
            continue
        folder = make_checkpoint(tmp_path / ending, family, name_class(family, ending))
        checkpoint = load_checkpoint(str(folder))
        assert tasks(checkpoint) == wanted
        assert checkpoint.tasks == ("embed", *(task for task, _ in wanted))
        assert (checkpoint.family.name, checkpoint.max_tokens) == (family, 64)
        assert (checkpoint.name, checkpoint.revision) == (ending, None)
        assert bool(checkpoint.notes) == (not wanted and ending != "Model")
        assert not checkpoint.trunk.training


def test_a_whole_bert_labelled_as_a_masked_one(tmp_path: Path) -> None:
    """As the first BERTs are on the hub: with the old names of the norms, too."""
    folder = make_checkpoint(tmp_path / "bert", "bert", "BertForPreTraining")
    change_json(folder / "config.json", architectures=["BertForMaskedLM"])

    def age(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        old = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
        for new, before in old:
            weights = {key.replace(new, before): value for key, value in weights.items()}
        return weights

    wanted = load_checkpoint(str(folder)).trunk.state_dict()
    rewrite(folder, age)
    checkpoint = load_checkpoint(str(folder))
    assert checkpoint.architecture == "BertForPreTraining"
    assert tasks(checkpoint) == [("fill-mask", None), ("next-sentence", None)]
    for key, value in checkpoint.trunk.state_dict().items():
        assert torch.equal(value, wanted[key]), key


def test_a_masked_bert_stays_one(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "bert", "bert", "BertForMaskedLM")
    assert tasks(load_checkpoint(str(folder))) == [("fill-mask", None)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_single(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = make_checkpoint(tmp_path / "bert", "bert", "BertForMaskedLM")
    rewrite(folder, lambda weights: {key: value.to(dtype) for key, value in weights.items()})
    change_json(folder / "config.json", dtype=str(dtype).removeprefix("torch."))
    checkpoint = load_checkpoint(str(folder))
    assert {value.dtype for value in checkpoint.trunk.parameters()} == {torch.float32}
    assert {value.dtype for value in checkpoint.heads[0].model.parameters()} == {torch.float32}


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "bert", "bert", "BertModel")
    wanted = load_checkpoint(str(folder)).trunk.state_dict()
    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    for key, value in load_checkpoint(str(folder)).trunk.state_dict().items():
        assert torch.equal(value, wanted[key]), key
    next(folder.glob("model-*.safetensors")).unlink()
    with pytest.raises(SourceError):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("declared", "tokenizer", "wanted"),
    # What sentence-transformers' file says goes before what the tokenizer's does.
    [(None, None, 64), (None, 40, 40), (30, 40, 30), (50, 40, 50), (100, 40, 64)],
)
def test_the_longest_text(
    tmp_path: Path, declared: int | None, tokenizer: int | None, wanted: int
) -> None:
    for family in ("bert", "roberta"):
        folder = make_checkpoint(tmp_path / family, family, name_class(family, "Model"))
        change_json(folder / "tokenizer_config.json", model_max_length=tokenizer or int(1e30))
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": declared})
        checkpoint = load_checkpoint(str(folder))
        assert checkpoint.max_tokens == wanted
        noted = any("positions for 64" in note for note in checkpoint.notes)
        assert noted == (declared == 100)
        assert checkpoint.position_start == (0 if family == "bert" else 2)


@pytest.mark.parametrize("length", ["many", -5, 1.5])
def test_a_length_that_is_none(tmp_path: Path, length: Any) -> None:
    folder = make_checkpoint(tmp_path / "bert", "bert", "BertModel")
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length})
    with pytest.raises(SourceError, match="max_seq_length"):
        _ = load_checkpoint(str(folder)).max_tokens


def test_named_heads(heads_source: Path) -> None:
    checkpoint = load_checkpoint(str(heads_source))
    assert tasks(checkpoint) == [("classify", "sentiment"), ("classify", "topics")]
    sentiment, topics = checkpoint.heads
    assert sentiment.labels == ("bad", "good")
    assert (sentiment.function, topics.function) == ("softmax", "sigmoid")
    # One encoder in memory, whatever the number of heads.
    embeddings = {id(head.model.base_model.embeddings) for head in checkpoint.heads}
    assert embeddings == {id(checkpoint.trunk.embeddings)}


def test_a_named_head_may_share_the_pooler(pretraining_source: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pretraining_source, tmp_path / "source"))
    add_head(folder, "mood", "BertForSequenceClassification", pooler=False, labels=["x", "y"])
    checkpoint = load_checkpoint(str(folder))
    assert tasks(checkpoint) == [("fill-mask", None), ("next-sentence", None), ("classify", "mood")]
    assert checkpoint.heads[2].model.base_model.pooler is checkpoint.trunk.pooler


def test_a_named_head_with_the_wrong_weights(heads_source: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(heads_source, tmp_path / "source"))
    file = folder / "heads" / "topics" / "model.safetensors"
    weights = load_file(file)
    for change, sentence in (
        ({"other.weight": torch.zeros(2)}, "unexpected other.weight"),
        ({"classifier.weight": torch.zeros(5, 32)}, "does not fit"),
    ):
        save_file(weights | change, file, metadata={"format": "pt"})
        with pytest.raises(SourceError, match=sentence):
            load_checkpoint(str(folder))
    weights.pop("classifier.bias")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"missing classifier\.bias"):
        load_checkpoint(str(folder))


def keep_old_files(folder: Path, family: str) -> None:
    """Replace tokenizer.json by the files that came before it."""
    content = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    if family == "bert":
        (folder / "vocab.txt").write_text("\n".join(content["vocab"]) + "\n")
    else:
        write_json(folder / "vocab.json", content["vocab"])
        merges = [" ".join(merge) for merge in content["merges"]]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_tokenizer_files_from_before_tokenizer_json(tmp_path: Path, family: str) -> None:
    folder = make_checkpoint(tmp_path / family, family, name_class(family, "Model"))
    text = "the king of france, walking 日本"
    wanted = load_checkpoint(str(folder)).tokenizer(text)["input_ids"]
    keep_old_files(folder, family)
    assert load_checkpoint(str(folder)).tokenizer(text)["input_ids"] == wanted


@pytest.mark.parametrize(
    ("family", "lost", "left"),
    [("bert", "vocab.txt", "vocab.json"), ("roberta", "merges", "vocab.json")],
)
def test_half_a_tokenizer(tmp_path: Path, family: str, lost: str, left: str) -> None:
    """transformers makes a tokenizer that knows no word of it, and says nothing."""
    folder = make_checkpoint(tmp_path / family, family, name_class(family, "Model"))
    keep_old_files(folder, family)
    next(folder.glob(f"{lost}*")).unlink()
    (folder / left).touch()
    if not (folder / left).read_bytes():
        (folder / left).write_text("{}")
    with pytest.raises(SourceError, match=lost):
        load_checkpoint(str(folder))


def test_find_source(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert find_source(str(tmp_path / "mine"), None) == (tmp_path / "mine", "mine", None)
    with pytest.raises(SourceError, match="hub id only"):
        find_source(str(tmp_path), "main")


def test_links_whose_ends_are_not_there(tmp_path: Path) -> None:
    """As in the hub's cache, of which a container was given one snapshot alone."""
    path = make_checkpoint(tmp_path / "snapshot", "bert", "BertModel")
    (path / "model.safetensors").rename(tmp_path / "blob")
    (path / "model.safetensors").symlink_to("../blob")
    assert find_source(str(path), None)[0] == path
    (tmp_path / "blob").unlink()
    with pytest.raises(SourceError, match=r"is a link to ../blob, which is not there"):
        find_source(str(path), None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_another_user_may_not_read(tmp_path: Path) -> None:
    """As a container would not read weights that were saved for their owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = make_checkpoint(Path(folder) / "mine", "bert", "BertModel")
        (path / "model.safetensors").chmod(0o600)
        hidden = make_checkpoint(Path(folder) / "hidden", "bert", "BertModel")
        (hidden / "heads").mkdir(mode=0o700)
        linked = make_checkpoint(Path(folder) / "linked", "bert", "BertModel")
        (linked / "model.safetensors").unlink()
        (linked / "model.safetensors").symlink_to(hidden / "heads" / "model.safetensors")
        os.seteuid(65534)
        try:
            with pytest.raises(SourceError) as refusal:
                find_source(str(path), None)
            with pytest.raises(SourceError, match="heads may not be read"):
                find_source(str(hidden), None)
            with pytest.raises(SourceError, match=r"linked/model.safetensors may not be read"):
                find_source(str(linked), None)
            with pytest.raises(SourceError, match="Permission denied"):
                find_source(str(tmp_path / "mine"), None)
        finally:
            os.seteuid(0)
    assert str(refusal.value).startswith(f"{path / 'model.safetensors'} may not be read")
    assert f"chmod -R a+rX {path}" in str(refusal.value)
