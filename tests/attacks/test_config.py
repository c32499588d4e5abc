"""Configs that ask for absurd sizes: refused before memory is taken, and at once."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.conftest import Refuse
from tests.helpers.checkpoints import add_head, change_json, make_checkpoint

SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "vocab_size",
    "type_vocab_size",
)


@contextmanager
def little_memory(megabytes: int = 512) -> Iterator[None]:
    """Lets this process take so much more address space than it has, and no more."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (megabytes << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refuse_at_once(refuse: Refuse, source: Path, *sentences: str) -> None:
    began = time.monotonic()
    with little_memory():
        refuse(source, 3, "config.json", *sentences)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("value", [10**9, 10**12, 10**30, 0, -1, "12", 1.5, True, [32], {}])
@pytest.mark.parametrize("key", SIZES)
def test_an_absurd_size(source: Path, refuse: Refuse, key: str, value: Any) -> None:
    if (key, value) == ("type_vocab_size", 0):
        value = -2
    change_json(source / "config.json", **{key: value})
    refuse_at_once(refuse, source, key)


@pytest.mark.parametrize("key", ["layer_norm_eps", "hidden_size", "vocab_size"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number(source: Path, refuse: Refuse, key: str, value: str) -> None:
    file = change_json(source / "config.json", **{key: "HERE"})
    file.write_text(file.read_text().replace('"HERE"', value))
    refuse_at_once(refuse, source)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": 64}, "as ["),
        ({"hidden_size": 16}, "as ["),
        ({"num_attention_heads": 5}, "5 attention heads do not divide a hidden size of 32"),
        ({"num_hidden_layers": 3}, "asks for num_hidden_layers 3, and the weights have 2"),
        ({"num_hidden_layers": 1}, "asks for num_hidden_layers 1, and the weights have 2"),
        ({"vocab_size": 336}, "word_embeddings.weight as [344, 32]"),
        ({"type_vocab_size": 1}, "token_type_embeddings.weight as [2, 32]"),
        ({"type_vocab_size": 0}, "config.json"),
        ({"max_position_embeddings": 63}, "position_embeddings.weight as [64, 32]"),
        ({"intermediate_size": 32}, "intermediate.dense.weight as [64, 32]"),
        ({"num_labels": 10**9}, "num_labels of 1000000000"),
        ({"pad_token_id": 10**12}, ""),
        ({"hidden_act": "evil"}, "not usable"),
        ({"hidden_act": ["gelu"]}, "not usable"),
    ],
)
def test_a_config_of_other_weights(
    source: Path, refuse: Refuse, changes: dict[str, Any], sentence: str
) -> None:
    change_json(source / "config.json", **changes)
    refuse_at_once(refuse, source, sentence)


@pytest.mark.parametrize(
    ("family", "ending", "changes"),
    [
        ("albert", "Model", {"num_hidden_layers": 10**6}),
        ("albert", "Model", {"num_hidden_groups": 10**6}),
        ("albert", "Model", {"inner_group_num": 10**9}),
        ("distilbert", "Model", {"dim": 10**9}),
        ("distilbert", "Model", {"n_layers": 10**6}),
        ("distilbert", "Model", {"n_heads": 5}),
        ("electra", "Model", {"embedding_size": 10**9}),
        ("roberta", "Model", {"pad_token_id": 10**12}),
        ("roberta", "Model", {"pad_token_id": -5}),
        ("roberta", "Model", {"pad_token_id": "1"}),
    ],
)
def test_other_families(
    tmp_path: Path, refuse: Refuse, family: str, ending: str, changes: dict[str, Any]
) -> None:
    names = {"albert": "Albert", "distilbert": "DistilBert", "electra": "Electra"}
    source = tmp_path / "source"
    make_checkpoint(source, family, names.get(family, "Roberta") + ending)
    change_json(source / "config.json", **changes)
    refuse_at_once(refuse, source)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_labels": 10**9},
        {"hidden_size": 10**9},
        {"num_hidden_layers": 10**6},
        {"max_position_embeddings": 10**12},
    ],
)
def test_a_head_of_absurd_size(source: Path, refuse: Refuse, changes: dict[str, Any]) -> None:
    head = add_head(source, "mood", "BertForSequenceClassification")
    change_json(head / "config.json", **{"id2label": None, "label2id": None} | changes)
    refuse_at_once(refuse, source, "mood")
