"""What is no encoder of BERT's kind, or lacks a form that is read, is told what it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

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
