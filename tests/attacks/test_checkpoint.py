"""Checkpoints that are broken, or made to break: refused, each with its file and its exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from export.__main__ import main
from export.reading.checkpoint import load_checkpoint
from tests.attacks.conftest import Refuse
from tests.helpers.checkpoints import (
    add_head,
    change_json,
    make_checkpoint,
    make_tokenizer,
    write_json,
)

Break = Callable[[Path], Any]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def drop_tokenizer(source: Path) -> None:
    for file in source.glob("tokenizer*"):
        file.unlink()


def make_tokenizer_too_large(source: Path) -> None:
    tokenizer = make_tokenizer("bert")
    tokenizer.add_tokens([f"extra{number}" for number in range(20)])
    tokenizer.save_pretrained(source)


def lose_a_weight(source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.bias")
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})


def bend_a_weight(source: Path) -> None:
    weights = load_file(source / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"] = torch.zeros(31)
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})


def config(**changes: Any) -> Break:
    return lambda source: change_json(source / "config.json", **changes)


def text(name: str, content: str) -> Break:
    return lambda source: (source / name).write_text(content)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 438\n"
BROKEN: dict[str, tuple[int, str, Break]] = {
    "no config": (3, "config.json is not there", lambda s: (s / "config.json").unlink()),
    "broken config": (
        3,
        "config.json cannot be read: Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1); correct it, or copy or save it again",
        text("config.json", "{"),
    ),
    "config of bytes": (
        3,
        "config.json cannot be read",
        lambda s: (s / "config.json").write_bytes(b"\xff\xfe\x00"),
    ),
    "config is a list": (3, "config.json is not a JSON object", text("config.json", "[]")),
    "config without a kind": (4, "model_type None", config(model_type=None)),
    "config with a wrong value": (3, "config.json is not usable", config(hidden_size="wide")),
    "unknown model_type": (4, "model_type 'flan'; supported are bert,", config(model_type="flan")),
    "a decoder": (
        4,
        "model_type 'gpt2', a decoder: Cloze serves encoders",
        config(model_type="gpt2"),
    ),
    "a decoder that is not known": (
        4,
        "model_type 'mine', a decoder: Cloze serves encoders",
        config(model_type="mine", architectures=["MineForCausalLM"]),
    ),
    "an encoder and a decoder": (
        4,
        "model_type 't5', an encoder with a decoder behind it: Cloze serves encoders",
        config(model_type="t5"),
    ),
    "model_type is a list": (4, "model_type ['bert']", config(model_type=["bert"])),
    "unknown architecture": (4, "'BertForMe'", config(architectures=["BertForMe"])),
    "architecture of another family": (
        4,
        "'RobertaModel', which is not one of transformers' bert models",
        config(architectures=["RobertaModel"]),
    ),
    "architecture is no model": (4, "'BertConfig'", config(architectures=["BertConfig"])),
    "architectures is a number": (4, "architecture", config(architectures=7)),
    "architecture without its head's weights": (
        3,
        "lacks weights of BertForMaskedLM: cls.predictions",
        config(architectures=["BertForMaskedLM"]),
    ),
    "no weights": (3, "has no weights", lambda s: (s / "model.safetensors").unlink()),
    "cut weights": (3, "model.safetensors cannot be read", lambda s: cut(s / "model.safetensors")),
    "empty weights": (
        3,
        "model.safetensors cannot be read",
        lambda s: (s / "model.safetensors").write_bytes(b""),
    ),
    "a weight missing": (3, "lacks weights of BertModel", lose_a_weight),
    "a weight of another shape": (3, "output.dense.bias as [31], and", bend_a_weight),
    "no tokenizer": (3, "has no tokenizer", drop_tokenizer),
    "broken tokenizer": (3, "tokenizer.json cannot be read", text("tokenizer.json", "{")),
    "broken special_tokens_map.json": (
        3,
        "special_tokens_map.json cannot be read",
        text("special_tokens_map.json", "{"),
    ),
    "weights that git has elsewhere": (
        3,
        "model.safetensors is a pointer of git-lfs and not the file itself; run `git lfs pull` in",
        text("model.safetensors", POINTER),
    ),
    "a tokenizer that git has elsewhere": (
        3,
        "tokenizer.json is a pointer of git-lfs and not the file itself",
        text("tokenizer.json", POINTER),
    ),
    "tokenizer larger than the embeddings": (
        4,
        "token ids up to 355, the model only 344",
        make_tokenizer_too_large,
    ),
    "relative positions": (
        4,
        "relative_key position embeddings",
        config(position_embedding_type="relative_key"),
    ),
    "Dense after the transformer": (
        4,
        "has a Dense module",
        lambda s: write_json(
            s / "modules.json",
            [
                {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "path": "1", "type": "sentence_transformers.models.Dense"},
            ],
        ),
    ),
    "modules.json is broken": (3, "modules.json cannot be read", text("modules.json", "[{")),
    "modules.json is no list": (3, "modules.json", text("modules.json", "5")),
    "modules.json is a list of words": (3, "modules.json", text("modules.json", '["Pooling"]')),
    "sentence_bert_config.json is no object": (
        3,
        "sentence_bert_config.json",
        text("sentence_bert_config.json", "[1]"),
    ),
    "a head without an architecture": (
        4,
        "names architecture ''",
        lambda s: write_json(s / "heads" / "mood" / "config.json", {"model_type": "bert"}),
    ),
    "a head without weights": (
        3,
        "has no weights",
        lambda s: (
            add_head(s, "mood", "BertForSequenceClassification") / "model.safetensors"
        ).unlink(),
    ),
    "a head of another width": (
        3,
        "another hidden_size than the trunk",
        lambda s: change_json(
            add_head(s, "mood", "BertForSequenceClassification") / "config.json", hidden_size=64
        ),
    ),
    "a head whose padding is no token": (
        3,
        "config.json is not usable: Padding_idx",
        lambda s: change_json(
            add_head(s, "mood", "BertForSequenceClassification") / "config.json",
            pad_token_id=10**30,
        ),
    ),
    "a head whose weights are cut": (
        3,
        "cannot be read",
        lambda s: cut(add_head(s, "mood", "BertForSequenceClassification") / "model.safetensors"),
    ),
    "a head with broken config": (
        3,
        "config.json",
        lambda s: (add_head(s, "mood", "BertForSequenceClassification") / "config.json").write_text(
            "{"
        ),
    ),
    "a head whose config is a list": (
        3,
        "config.json",
        lambda s: (add_head(s, "mood", "BertForSequenceClassification") / "config.json").write_text(
            "[]"
        ),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_checkpoint(source: Path, refuse: Refuse, what: str) -> None:
    code, sentence, damage = BROKEN[what]
    damage(source)
    refuse(source, code, sentence)


def test_positions_that_are_counted_by_nothing(tmp_path: Path, refuse: Refuse) -> None:
    source = make_checkpoint(tmp_path / "source", "roberta", "RobertaModel")
    content = json.loads((source / "config.json").read_text())
    write_json(source / "config.json", content | {"pad_token_id": None})
    refuse(source, 3, "config.json is not usable: pad_token_id is None")


def change_tokenizer(**changes: Any) -> Break:
    return lambda source: change_json(source / "tokenizer_config.json", **changes)


def save_tokenizer(tokenizer: Tokenizer) -> Break:
    return lambda source: tokenizer.save(str(source / "tokenizer.json"))


TOKENIZERS: dict[str, tuple[int, str, Break]] = {
    "cut": (3, "tokenizer.json cannot be read", lambda s: cut(s / "tokenizer.json")),
    "no object": (3, "tokenizer.json is no tokenizer", text("tokenizer.json", "[1]")),
    "of no known model": (
        3,
        "tokenizer.json is no tokenizer",
        text("tokenizer.json", '{"model": {"type": "Evil"}}'),
    ),
    "a length that is text": (3, "model_max_length", change_tokenizer(model_max_length="long")),
    "a vocabulary without words": (
        3,
        "gives texts no ids: WordPiece error",
        lambda s: write_json(
            s / "tokenizer.json",
            (content := json.loads((s / "tokenizer.json").read_text()))
            | {"model": content["model"] | {"vocab": {}}},
        ),
    ),
    "no room for a word": (
        3,
        "takes texts of 2 tokens, 2 of them special ones",
        change_tokenizer(model_max_length=2),
    ),
    "no room by sentence-transformers": (
        3,
        "takes texts of 1 tokens",
        lambda s: write_json(s / "sentence_bert_config.json", {"max_seq_length": 1}),
    ),
}


@pytest.mark.parametrize("what", TOKENIZERS)
def test_a_broken_tokenizer(source: Path, refuse: Refuse, what: str) -> None:
    code, sentence, damage = TOKENIZERS[what]
    damage(source)
    refuse(source, code, sentence, str(source))


def test_a_tokenizer_of_another_kind(source: Path, tmp_path: Path) -> None:
    """Whatever transformers makes of it: the same, or nothing at all."""
    byte_pairs = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    byte_pairs.save(str(source / "tokenizer.json"))
    found = main([str(source), str(tmp_path / "bundle")])
    assert found in (0, 3, 4, 6)
    assert (found == 0) == (tmp_path / "bundle").exists()


def test_a_masked_model_without_a_mask(tmp_path: Path, refuse: Refuse) -> None:
    make_checkpoint(tmp_path / "source", "bert", "BertForMaskedLM")
    tokenizer = make_tokenizer("bert")
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "source")
    refuse(
        tmp_path / "source", 4, "its tokenizer no mask token; name it as mask_token in tokenizer"
    )


def test_weights_that_nothing_uses_are_told(source: Path) -> None:
    weights = load_file(source / "model.safetensors") | {"adapter.down": torch.zeros(3)}
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    notes = load_checkpoint(str(source)).notes
    assert notes == ["weights that BertModel has no use for: adapter.down"]


LABELS: dict[str, tuple[dict[str, Any], str]] = {
    "one twice": ({"id2label": {"0": "bad", "1": "fine", "2": "bad"}}, "class 0 and class 2 'bad'"),
    "one twice, as number and text": (
        {"id2label": {"0": "1", "1": 1, "2": "b"}},
        "class 0 and class 1",
    ),
    "one left out": ({"id2label": {"0": "a", "2": "c", "3": "d"}}, "numbers its labels 0, 2, 3"),
    "no numbers": ({"id2label": {"a": 0, "b": 1, "c": 2}}, "not usable"),
    "an empty one": ({"id2label": {"0": "a", "1": " ", "2": "c"}}, "no label for class 1"),
    "one that is null": ({"id2label": {"0": "a", "1": None, "2": "c"}}, "no label for class 1"),
    "too few": ({"id2label": {"0": "a", "1": "b"}}, "classifier.weight as [3, 32]"),
    "too many": (
        {"id2label": dict(zip("0123", "abcd", strict=True))},
        "classifier.weight as [3, 32]",
    ),
    "a list": ({"id2label": ["a", "b", "c"]}, "not usable"),
    "another number": (
        {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 2, "c": 1}},
        "says in label2id that 'b' is class 2",
    ),
    "no inverse": (
        {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": ["a", "b", "c"]},
        "label2id that is not an object",
    ),
}


@pytest.mark.parametrize("what", LABELS)
def test_labels_that_do_not_tell_classes_apart(classifier: Path, refuse: Refuse, what: str) -> None:
    changes, sentence = LABELS[what]
    change_json(classifier / "config.json", **{"label2id": None} | changes)
    refuse(classifier, 3, sentence, "config.json")


def test_labels_of_a_head_of_its_own(source: Path, refuse: Refuse) -> None:
    labels = {"id2label": {"0": "x", "1": "x"}, "label2id": None}
    change_json(add_head(source, "mood", "BertForSequenceClassification") / "config.json", **labels)
    refuse(source, 3, "class 0 and class 1 'x'", "mood")


def test_labels_that_are_often_so(classifier: Path) -> None:
    """Named in one map alone, numbers for names, or only counted."""
    default: dict[str, int] = {f"LABEL_{number}": number for number in range(3)}
    for changes, wanted in (
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": default}, ("a", "b", "c")),
        ({"id2label": {"0": 0, "1": 1, "2": 2}, "label2id": None}, ("0", "1", "2")),
        ({"id2label": None, "label2id": None, "num_labels": 3}, tuple(default)),
    ):
        change_json(classifier / "config.json", **changes)
        assert load_checkpoint(str(classifier)).heads[0].labels == wanted
