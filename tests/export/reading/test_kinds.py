"""What is no encoder of BERT's kind, or lacks a form that is read, is told what it is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from export.errors import SourceError, UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from tests.helpers.checkpoints import change_json, make_checkpoint, write_json

STATIC = [{"idx": 0, "path": "", "type": "sentence_transformers.models.StaticEmbedding"}]


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("gliner_config.json", {"model_name": "microsoft/deberta-v3-base"}, "is a GLiNER model"),
        ("modules.json", STATIC, "is a static embedding (StaticEmbedding, model2vec)"),
        ("config.json", {"model_type": "model2vec"}, "is a static embedding (model2vec)"),
        ("final-model.pt", {}, "is a model of flair"),
    ],
)
def test_models_of_other_libraries(tmp_path: Path, file: str, content: Any, sentence: str) -> None:
    write_json(tmp_path / file, content)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsupportedModel) as caught:
        load_checkpoint(str(tmp_path))
    assert caught.value.message.startswith(f"{tmp_path} {sentence}")


def test_a_model_of_flair_by_what_its_archive_names(tmp_path: Path) -> None:
    torch.save({"model": "flair.models.SequenceTagger"}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="is a model of flair"):
        load_checkpoint(str(tmp_path))
    torch.save({"model": "another"}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"config\.json is not there"):
        load_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("tf_model.h5", r"has no weights but tf_model\.h5, of TensorFlow; load it with transform"),
        ("flax_model.msgpack", r"but flax_model\.msgpack, of Flax"),
        ("onnx/model.onnx", r"but onnx/model\.onnx, a graph .* export that checkpoint"),
        ("bert-q8_0.gguf", r"but bert-q8_0\.gguf, quantised for llama\.cpp"),
        (
            "epoch=3.ckpt",
            r"but epoch=3\.ckpt, a pickle of PyTorch Lightning, which is",
        ),
    ],
)
def test_weights_of_another_kind(tmp_path: Path, file: str, sentence: str) -> None:
    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    (source / "model.safetensors").unlink()
    (source / file).parent.mkdir(exist_ok=True)
    (source / file).write_bytes(b"weights")
    with pytest.raises(SourceError, match=sentence):
        load_checkpoint(str(source))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("PhobertTokenizer", "of text whose words were joined before it sees them"),
        ("BertJapaneseTokenizer", "by MeCab, Sudachi or Juman"),
        ("RoFormerTokenizerFast", "of Chinese by jieba"),
    ],
)
@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_tokenizers_without_a_fast_form(
    tmp_path: Path, name: str, sentence: str, file: str
) -> None:
    """transformers asks for a package of theirs, or has no other remedy than one that is none."""
    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    if file == "config.json":
        (source / "tokenizer_config.json").unlink()
        vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
        (source / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        (source / "tokenizer.json").unlink()
    change_json(source / file, tokenizer_class=name)
    with pytest.raises(UnsupportedModel) as caught:
        load_checkpoint(str(source))
    assert f"tokenizer_class {name!r}, which divides words {sentence}" in caught.value.message
    assert str(source / file) in caught.value.message


LORA = {"peft_type": "LORA", "base_model_name_or_path": "bert-base-uncased", "r": 8}
NAME = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"


@pytest.mark.parametrize("inside", ["", "0_Transformer"])
@pytest.mark.parametrize("whole", [False, True])
def test_an_adapter_is_no_model(tmp_path: Path, inside: str, whole: bool) -> None:  # noqa: FBT001
    """As peft saves it, alone or in a folder of sentence-transformers; `whole`: beside a model."""
    folder = tmp_path / "source" / inside
    if whole:
        make_checkpoint(folder, "bert", "BertModel")
    write_json(folder / "adapter_config.json", LORA)
    save_file({NAME: torch.zeros(8, 32)}, folder / "adapter_model.safetensors")
    if inside:
        named = "sentence_transformers.models.Transformer"
        write_json(tmp_path / "source/modules.json", [{"idx": 0, "path": inside, "type": named}])
    with pytest.raises(UnsupportedModel) as refusal:
        load_checkpoint(str(tmp_path / "source"))
    said = refusal.value.message
    assert said.startswith(f"{folder / 'adapter_config.json'} makes it an adapter on bert-base-unc")
    assert "merge_and_unload().save_pretrained(NEW)" in said


def test_a_folder_without_a_config_says_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()

    def refuse(sentence: str) -> None:
        with pytest.raises(SourceError) as refusal:
            load_checkpoint(str(folder))
        assert refusal.value.message.startswith(f"{folder} {sentence}")

    refuse("is empty; give the directory that holds config.json")
    (folder / "model-Q4_0.gguf").write_bytes(b"GGUF")
    refuse("has no config.json, and for weights only model-Q4_0.gguf, quantised for llama.cpp; ")
    (folder / "model-Q4_0.gguf").unlink()
    (folder / "last.ckpt").write_bytes(b"PK")
    refuse("has no config.json, and for weights only last.ckpt, a pickle of PyTorch Lightning")
    for number in (500, 1000):
        make_checkpoint(folder / f"checkpoint-{number}", "bert", "BertModel")
    wanted = f"{folder / 'checkpoint-1000'} in it is the last checkpoint of a training: give that"
    refuse(f"has no config.json, and is no checkpoint; {wanted}")
    for number in (500, 1000):
        shutil.move(folder / f"checkpoint-{number}", folder / f"run{number}")
    refuse(
        f"has no config.json, and is no checkpoint; {folder / 'run1000'} in it is one: give that"
    )
