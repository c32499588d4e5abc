"""Checkpoints as people really have them: odd sizes, vocabularies, special tokens and files."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertTokenizer

from export.errors import SourceError
from export.reading.checkpoint import load_checkpoint
from models import Pipeline
from tests.helpers.checkpoints import (
    WORDS,
    change_json,
    in_turn,
    make_checkpoint,
    make_config,
    make_model,
    make_tokenizer,
    name_class,
    write_json,
)
from tests.helpers.oracle import Original, pool, write_pairs, write_texts
from tests.helpers.store import Store

TEXTS = write_texts(12, seed=51)


def check(source: Path, exports: Store) -> Pipeline:
    """Export, and compare texts and pairs with transformers, whatever the proof said."""
    tasks = load_checkpoint(str(source)).tasks
    pipeline = Pipeline.open(exports.export(source, "bundle", tasks=tasks), threads=1)
    original = Original(source)
    found = pipeline.embed(TEXTS, normalize=False, overflow="truncate")
    wanted = np.stack([pool(original.hidden(text)) for text in TEXTS])
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found / scale, wanted / scale, atol=2e-5)
    if "fill-mask" in tasks:
        text = f"the {original.tokenizer.mask_token} of france"
        size = pipeline.manifest.vocabulary_size
        [[mask]] = pipeline.fill_mask([text], top_k=size)
        scores = np.empty(size, np.float32)
        for candidate in mask.candidates:
            scores[candidate.token_id] = candidate.score
        np.testing.assert_allclose(scores, original.mask_scores(text)[0], atol=2e-5)
    if "classify" in tasks:
        for item in [*TEXTS[:4], *write_pairs(4, seed=52)]:
            [labels] = pipeline.classify([item], function="none", overflow="truncate")
            found_logits = {label.label: label.score for label in labels}
            names = [original.config.id2label[place] for place in range(len(labels))]
            logits = original.logits(item)
            np.testing.assert_allclose([found_logits[name] for name in names], logits, atol=5e-5)
    return pipeline


SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "heads that are not of 64": (
        "bert",
        "ForMaskedLM",
        {"hidden_size": 40, "num_attention_heads": 5, "intermediate_size": 52},
    ),
    "one head, odd sizes": (
        "bert",
        "Model",
        {"hidden_size": 27, "num_attention_heads": 1, "intermediate_size": 19},
    ),
    "many layers": ("bert", "Model", {"num_hidden_layers": 12, "initializer_range": 0.1}),
    "another activation, one kind of segment": (
        "bert",
        "ForMaskedLM",
        {"hidden_act": "gelu_new", "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    ),
    "albert in groups": (
        "albert",
        "ForMaskedLM",
        {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 1},
    ),
    "mobilebert without bottlenecks": (
        "mobilebert",
        "ForMaskedLM",
        {
            "use_bottleneck": False,
            "num_feedforward_networks": 1,
            "normalization_type": "layer_norm",
        },
    ),
    "mobilebert without an activation in its pooler": (
        "mobilebert",
        "ForSequenceClassification",
        {"classifier_activation": False, "labels": ("a", "b")},
    ),
    "mobilebert without trigrams, attention in its bottleneck": (
        "mobilebert",
        "Model",
        {
            "trigram_input": False,
            "use_bottleneck_attention": True,
            "key_query_shared_bottleneck": False,
        },
    ),
    "modernbert with norms and biases": (
        "modernbert",
        "ForMaskedLM",
        {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "decoder_bias": False},
    ),
    "modernbert of local layers but the first": (
        "modernbert",
        "ForSequenceClassification",
        {
            "num_hidden_layers": 5,
            "global_attn_every_n_layers": 3,
            "local_attention": 7,
            "classifier_pooling": "cls",
            "labels": ("a", "b", "c"),
        },
    ),
    "modernbert without a window": ("modernbert", "Model", {"global_attn_every_n_layers": 1}),
    "mpnet with buckets that it never asks for": (
        "mpnet",
        "ForMaskedLM",
        {"relative_attention_num_buckets": 48},
    ),
    "deberta of absolute positions and segments": (
        "deberta-v2",
        "ForMaskedLM",
        {
            "relative_attention": False,
            "position_biased_input": True,
            "type_vocab_size": 2,
            "pos_att_type": None,
        },
    ),
    "deberta-v2 with a convolution": (
        "deberta-v2",
        "ForSequenceClassification",
        {"conv_kernel_size": 3, "conv_act": "gelu", "labels": ("a", "b")},
    ),
    "deberta with positions of its own": (
        "deberta-v2",
        "ForMaskedLM",
        {"share_att_key": False, "pos_att_type": "c2p", "norm_rel_ebd": "none"},
    ),
    "deberta without buckets": (
        "deberta-v2",
        "Model",
        {"position_buckets": -1, "max_relative_positions": -1},
    ),
    "deberta of the head that is not legacy": ("deberta-v2", "ForMaskedLM", {"legacy": False}),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", SHAPES)
def test_shapes(tmp_path: Path, exports: Store, what: str) -> None:
    family, ending, config = SHAPES[what]
    source = make_checkpoint(tmp_path / "source", family, name_class(family, ending), **config)
    check(source, exports)


@pytest.mark.parametrize(
    ("labels", "problem_type", "function"),
    [
        (("a", "b", "c"), "single_label_classification", "softmax"),
        (("a", "b", "c"), "multi_label_classification", "sigmoid"),
        pytest.param(("height", "width"), "regression", "none", marks=pytest.mark.slow),
        (("relevance",), None, "sigmoid"),
        pytest.param(("relevance",), "regression", "none", marks=pytest.mark.slow),
    ],
)
def test_kinds_of_problem(
    tmp_path: Path, exports: Store, labels: tuple[str, ...], problem_type: str | None, function: str
) -> None:
    """One label without a kind is a cross-encoder, whose score is a sigmoid."""
    source = make_checkpoint(
        tmp_path / "source",
        "bert",
        "BertForSequenceClassification",
        labels=labels,
        problem_type=problem_type,
    )
    entry = check(source, exports).find_head("classify").entry
    assert (entry.labels, entry.problem_type, entry.function) == (labels, problem_type, function)


def replace_tokenizer(
    folder: Path, make: Callable[[dict[str, int]], Any], ending: str = "ForMaskedLM"
) -> Path:
    """A tiny BERT whose tokenizer is made from the vocabulary of the others."""
    vocabulary = dict(make_tokenizer("bert").get_vocab())
    tokenizer = make(dict(sorted(vocabulary.items(), key=lambda pair: pair[1])))
    model = make_model(name_class("bert", ending), make_config("bert", tokenizer))
    model.save_pretrained(folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder


def test_a_cased_tokenizer(tmp_path: Path, exports: Store) -> None:
    def make(vocabulary: dict[str, int]) -> Any:
        names = {name: len(vocabulary) + place for place, name in enumerate(("Paris", "King"))}
        return BertTokenizer(vocab=vocabulary | names, do_lower_case=False)

    pipeline = check(replace_tokenizer(tmp_path / "source", make), exports)
    cased, lower = pipeline.embed(["Paris", "paris"])
    assert np.abs(cased - lower).max() > 1e-3
    head = pipeline.find_head("embed")
    assert len(head.encoder.encode("Paris King", overflow="error").ids) == 4


def test_special_tokens_of_other_names(tmp_path: Path, exports: Store) -> None:
    def make(vocabulary: dict[str, int]) -> Any:
        renamed = {token.replace("[MASK]", "<blank>"): place for token, place in vocabulary.items()}
        tokenizer = BertTokenizer(vocab=renamed, mask_token="<blank>")
        tokenizer.add_special_tokens({"additional_special_tokens": ["[NAME]", "[CITY]"]})
        return tokenizer

    pipeline = check(replace_tokenizer(tmp_path / "source", make), exports)
    assert pipeline.manifest.special_tokens["mask"].token == "<blank>"
    # Both ways of writing a mask mean the same; the added tokens are one token each.
    [[own]] = pipeline.fill_mask(["the <blank> of [NAME] in [CITY]"])
    [[common]] = pipeline.fill_mask(["the [MASK] of [NAME] in [CITY]"])
    assert [one.token_id for one in own.candidates] == [one.token_id for one in common.candidates]
    encoder = pipeline.find_head("embed").encoder
    assert len(encoder.encode("[NAME] in [CITY]", overflow="error").ids) == 5


def test_a_mask_that_was_added_last(tmp_path: Path, exports: Store) -> None:
    def make(vocabulary: dict[str, int]) -> Any:
        del vocabulary["[MASK]"]
        kept = {token: place for place, token in enumerate(vocabulary)}
        tokenizer = BertTokenizer(vocab=kept, mask_token="<gap>")
        assert tokenizer.mask_token_id == len(kept)
        return tokenizer

    check(replace_tokenizer(tmp_path / "source", make), exports)


@pytest.mark.parametrize("family", in_turn(["bert", "mobilebert"], ("bert",)))
def test_a_vocabulary_padded_to_eights(tmp_path: Path, exports: Store, family: str) -> None:
    size = (len(make_tokenizer(family)) // 8 + 3) * 8
    source = make_checkpoint(
        tmp_path / "source", family, name_class(family, "ForMaskedLM"), vocab_size=size
    )
    pipeline = check(source, exports)
    assert pipeline.manifest.vocabulary_size == size


@pytest.mark.parametrize("family", in_turn(["bert", "roberta", "modernbert"], ("modernbert",)))
def test_decoders_that_are_not_tied(tmp_path: Path, exports: Store, family: str) -> None:
    for tied in (True, False):
        source = make_checkpoint(
            tmp_path / f"tied-{tied}",
            family,
            name_class(family, "ForMaskedLM"),
            tie_word_embeddings=tied,
        )
        keys = load_file(source / "model.safetensors")
        assert any(key.endswith("decoder.weight") for key in keys) != tied
    check(source, exports)


@pytest.mark.parametrize(
    ("family", "dtype"), [("bert", torch.float16), ("modernbert", torch.bfloat16)]
)
def test_half_precision_in_several_files(
    tmp_path: Path, exports: Store, family: str, dtype: torch.dtype
) -> None:
    source = make_checkpoint(tmp_path / "source", family, name_class(family, "Model"))
    model = AutoModel.from_pretrained(source).to(dtype)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="20KB")
    assert (source / "model.safetensors.index.json").exists()
    kept = [load_file(file) for file in sorted(source.glob("model-*.safetensors"))]
    assert {value.dtype for weights in kept for value in weights.values()} == {dtype}
    change_json(source / "config.json", dtype=str(dtype).removeprefix("torch."))
    pipeline = Pipeline.open(exports.export(source, "bundle"), threads=1)
    # What is served is the stored weights, computed in single precision.
    original = Original(source)
    original.model.float()
    wanted = np.stack([pool(original.hidden(text)) for text in TEXTS])
    found = pipeline.embed(TEXTS, normalize=False, overflow="truncate")
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_weights_of_the_trunk_alone_under_a_name_of_their_own(
    tmp_path: Path, exports: Store
) -> None:
    """Saved from a model with a head, labelled as the encoder: keys start with `bert.`."""
    source = make_checkpoint(tmp_path / "source", "bert", "BertForMaskedLM")
    change_json(source / "config.json", architectures=["BertModel"])
    assert check(source, exports).manifest.tasks == ("embed",)


def test_a_tokenizer_that_is_a_sentencepiece_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first DeBERTa-v3 are on the hub: trained here, and asked by its own library."""
    source = make_checkpoint(tmp_path / "source", "deberta-v2", "DebertaV2Model")
    lines = [" ".join(WORDS[start : start + 9]) for start in range(0, len(WORDS), 3)]
    (tmp_path / "lines").write_text("\n".join(lines))
    special = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "lines"),
        model_prefix=str(source / "spm"),
        vocab_size=200,
        hard_vocab_limit=False,
        minloglevel=2,
        **{f"{name}_id": place for place, name in enumerate(special)},
        **{f"{name}_piece": piece for name, piece in special.items()},
    )
    (source / "tokenizer.json").unlink()
    write_json(source / "tokenizer_config.json", {"do_lower_case": False, "vocab_type": "spm"})
    model = sentencepiece.SentencePieceProcessor(model_file=str(source / "spm.model"))
    tokenizer = load_checkpoint(str(source)).tokenizer
    for text in ("the king of france", "walking home", "a few words"):
        assert tokenizer(text)["input_ids"] == [1, *model.encode(text), 2]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match=r"spm\.model alone; run `pip install sentencepiece`"):
        load_checkpoint(str(source))


def test_weights_without_their_contiguous_order(tmp_path: Path, exports: Store) -> None:
    """A file whose tensors stand in another order, with one that no model reads."""
    source = make_checkpoint(tmp_path / "source", "bert", "BertModel")
    file = source / "model.safetensors"
    weights = dict(reversed(load_file(file).items()))
    weights["embeddings.position_ids"] = torch.arange(64)[None]
    save_file(weights, file, metadata={"format": "pt"})
    check(source, exports)
