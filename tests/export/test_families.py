"""The later families: each equal to transformers among strangers, and what is refused of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.errors import ExportError, SourceError, UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from models import Pipeline
from tests.helpers.checkpoints import (
    ALIKE,
    CLASSIFIERS,
    WORDS,
    change_json,
    in_turn,
    make_checkpoint,
    name_class,
)
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, pool, write_pairs, write_texts
from tests.helpers.relatives import RELATIVES
from tests.helpers.store import Store

TEXTS = write_texts(24, seed=71)
# In single precision, of the largest value.
NEAR = 1e-5


def measure(found: Any, wanted: Any) -> float:
    """The largest difference, of the largest value above 1."""
    scale = max(1.0, float(np.abs(np.asarray(wanted)).max()))
    return float(np.abs(np.asarray(found) - np.asarray(wanted)).max()) / scale


def compare_vectors(pipeline: Pipeline, hidden: Any) -> float:
    """Of the texts, packed together."""
    found = pipeline.embed(TEXTS, normalize=False, overflow="truncate")
    return measure(found, np.stack([pool(hidden(text)) for text in TEXTS]))


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=[pytest.mark.slow] if family in ALIKE else [])
        for family in RELATIVES
    ],
)
def test_vectors_and_masks(exported: Export, family: str) -> None:
    pair: Exported = exported(family, "ForMaskedLM")
    assert compare_vectors(pair.pipeline, pair.original.hidden) < NEAR
    mask = pair.original.tokenizer.mask_token
    lengths = (1, 2, 5, 9, 17, 24)
    texts = [f"{' '.join(WORDS[:count])} {mask} {' '.join(WORDS[-count:])}" for count in lengths]
    found = pair.pipeline.fill_mask(texts, top_k=pair.pipeline.manifest.vocabulary_size)
    for text, [answer] in zip(texts, found, strict=True):
        wanted = pair.original.mask_scores(text)[0]
        scores = np.zeros_like(wanted)
        scores[[one.token_id for one in answer.candidates]] = [
            one.score for one in answer.candidates
        ]
        np.testing.assert_allclose(scores, wanted, atol=NEAR)


# The others' classifiers take their turn in `make test-slow`.
_LABELLED = ("nomic_bert", "deberta")


@pytest.mark.parametrize(
    "family",
    in_turn(RELATIVES, _LABELLED),
)
def test_labels(exported: Export, family: str) -> None:
    pair: Exported = exported(family, "ForSequenceClassification", **CLASSIFIERS[family])
    items: list[Any] = [*TEXTS[:8], *write_pairs(8, seed=72)]
    answers = pair.pipeline.classify(items, function="none", overflow="truncate")
    rows = [{one.label: one.score for one in row} for row in answers]
    found = [[row["bad"], row["good"]] for row in rows]
    assert measure(found, [pair.original.logits(item) for item in items]) < NEAR


def publish(source: Path, name: str, **config: Any) -> Path:
    """The checkpoint as it was published: transformers writes its weights under those names."""
    assert any(name in key for key in load_file(source / "model.safetensors"))
    change_json(source / "config.json", **config)
    return source


NEW = {
    "model_type": "new",
    "rope_parameters": None,
    "pack_qkv": True,
    "position_embedding_type": "rope",
    "layer_norm_type": "layer_norm",
    "logn_attention_scale": False,
    "unpad_inputs": False,
    "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
}


@pytest.mark.parametrize(
    "ending",
    [
        "ForMaskedLM",
        pytest.param("Model", marks=pytest.mark.slow),
        pytest.param("ForSequenceClassification", marks=pytest.mark.slow),
    ],
)
def test_gte_by_its_older_name(tmp_path: Path, exports: Store, ending: str) -> None:
    source = make_checkpoint(tmp_path / "native", "gte", f"Gte{ending}", type_vocab_size=0)
    original = Exported(source, source).original
    wanted = np.stack([pool(original.hidden(text)) for text in TEXTS])
    theta = json.loads((source / "config.json").read_text())["rope_parameters"]["rope_theta"]
    publish(source, "attention.qkv_proj", architectures=[f"New{ending}"], rope_theta=theta, **NEW)
    pipeline = Pipeline.open(exports.export(source, "gte"), threads=1)
    assert pipeline.manifest.family == "gte"
    assert pipeline.manifest.source.architecture == f"Gte{ending}"
    if ending != "ForSequenceClassification":
        found = pipeline.embed(TEXTS, normalize=False, overflow="truncate")
        assert measure(found, wanted) < NEAR


def test_gte_whose_turns_are_stretched(tmp_path: Path, exports: Store) -> None:
    """Fixed NTK, which transformers has no name for: its frequencies by hand."""
    source = make_checkpoint(tmp_path / "source", "gte", "GteModel")
    theta, factor, size = 500.0, 2.0, 8
    steps = torch.arange(0, size, 2, dtype=torch.float64) / size
    frequencies = (theta * factor) ** -steps / factor ** (2 / size)
    original = Exported(source, source).original
    before = np.stack([pool(original.hidden(text)) for text in TEXTS])
    original.model.rotary_emb.inv_freq = frequencies.float()
    scaling = {"type": "ntk", "factor": factor}
    publish(
        source,
        "attention.qkv_proj",
        architectures=["NewModel"],
        rope_theta=theta,
        rope_scaling=scaling,
        **NEW,
    )
    pipeline = Pipeline.open(exports.export(source, "gte"), threads=1)
    assert compare_vectors(pipeline, original.hidden) < NEAR
    found = pipeline.embed(TEXTS, normalize=False, overflow="truncate")
    assert measure(found, before) > 100 * NEAR


def test_a_token_classifier_that_is_an_encoder(tmp_path: Path) -> None:
    """As gte-multilingual-base calls itself."""
    source = make_checkpoint(tmp_path / "source", "gte", "GteModel")
    publish(
        source,
        "attention.qkv_proj",
        architectures=["NewForTokenClassification"],
        rope_theta=1000.0,
        **NEW,
    )
    change_json(source / "config.json", id2label=None, label2id=None)
    assert load_checkpoint(str(source)).tasks == ("embed",)


def test_nomic_as_it_is_published(tmp_path: Path, exports: Store) -> None:
    source = make_checkpoint(tmp_path / "source", "nomic_bert", "NomicBertModel")
    original = Exported(source, source).original
    _ = original.model
    theirs = {
        "n_embd": 32,
        "n_layer": 2,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_scaling_factor": None,
        "activation_function": "swiglu",
        "prenorm": False,
        "qkv_proj_bias": False,
        "layer_norm_epsilon": 1e-12,
        "rope_parameters": None,
    }
    publish(source, "attn.Wqkv", **theirs)
    pipeline = Pipeline.open(exports.export(source, "nomic"), threads=1)
    assert compare_vectors(pipeline, original.hidden) < NEAR


REFUSED: dict[str, tuple[str, dict[str, Any], type[ExportError], str]] = {
    "nomic v1": (
        "nomic_bert",
        {"rotary_scaling_factor": 2},
        UnsupportedModel,
        "rotary_scaling_factor 2, which transformers' nomic_bert models do not compute",
    ),
    "nomic v2-moe": (
        "nomic_bert",
        {"moe_every_n_layers": 2, "num_experts": 8},
        UnsupportedModel,
        "moe_every_n_layers 2",
    ),
    "nomic with biases": (
        "nomic_bert",
        {"qkv_proj_bias": True},
        UnsupportedModel,
        "qkv_proj_bias True",
    ),
    "an older nomic": (
        "nomic_bert",
        {"n_layer": 2, "num_hidden_layers": None},
        UnsupportedModel,
        "has n_layer and no num_hidden_layers",
    ),
    "gte that scales by length": (
        "gte",
        {"model_type": "new", "logn_attention_scale": True},
        UnsupportedModel,
        "logn_attention_scale True",
    ),
    "gte with positions of another kind": (
        "gte",
        {"model_type": "new", "position_embedding_type": "absolute"},
        UnsupportedModel,
        "position_embedding_type 'absolute'",
    ),
    "gte with a mixed stretch": (
        "gte",
        {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 1.0}},
        UnsupportedModel,
        "rope_scaling.mixed_b",
    ),
    "gte with a stretch of none": (
        "gte",
        {"rope_scaling": {"type": "ntk", "factor": "2"}, "rope_theta": 10.0},
        SourceError,
        "rope_scaling.factor is '2'",
    ),
    "turns that follow the length": (
        "jina_embeddings_v3",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10.0}},
        UnsupportedModel,
        "has rope_parameters of type 'dynamic'",
    ),
    "jina v3 with adapters": (
        "xlm-roberta",
        {
            "lora_adaptations": ["retrieval.query"],
            "auto_map": {"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora"},
        },
        UnsupportedModel,
        "export jinaai/jina-embeddings-v3-hf",
    ),
    "a head that looks for the question's end": (
        "big_bird",
        {"architectures": ["BigBirdForQuestionAnswering"]},
        UnsupportedModel,
        "looks for the end of the question",
    ),
    "a language for each text": (
        "xmod",
        {"default_language": None},
        UnsupportedModel,
        "set it to one of ['en_XX', 'de_DE']",
    ),
    "late pooling": (
        "eurobert",
        {"architectures": ["EuroBertForSequenceClassification"], "classifier_pooling": "late"},
        UnsupportedModel,
        "pools by 'late'",
    ),
    "causal attention": ("bert", {"is_decoder": True}, UnsupportedModel, "(causal attention)"),
    "a language model": (
        "bert",
        {"architectures": ["BertLMHeadModel"]},
        UnsupportedModel,
        "has the architecture BertLMHeadModel",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(tmp_path: Path, what: str) -> None:
    family, changes, kind, sentence = REFUSED[what]
    ending = "ForSequenceClassification" if what == "late pooling" else "Model"
    source = make_checkpoint(tmp_path / "source", family, name_class(family, ending))
    change_json(source / "config.json", **changes)
    with pytest.raises(kind) as caught:
        load_checkpoint(str(source))
    assert sentence in caught.value.message
    assert str(source / "config.json") in caught.value.message or what == "late pooling"


@pytest.mark.parametrize("family", ["modernbert", "nomic_bert", "gte", "eurobert"])
def test_more_positions_than_any_tensor_has_rows(tmp_path: Path, family: str) -> None:
    """What turns by position has no table, and a vocabulary of proteins is small."""
    source = make_checkpoint(tmp_path / "source", family, name_class(family, "Model"))
    change_json(source / "config.json", max_position_embeddings=8192)
    change_json(source / "tokenizer_config.json", model_max_length=8192)
    assert load_checkpoint(str(source)).max_tokens == 8192
    change_json(source / "config.json", max_position_embeddings=10**12)
    with pytest.raises(SourceError, match=r"asks for 1000000000000 positions, above 1048576"):
        load_checkpoint(str(source))


def test_big_bird_as_far_as_it_sees_the_whole_text(tmp_path: Path, exports: Store) -> None:
    """As it is published: transformers reads short texts as a whole, and longer ones in blocks."""
    blocks = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    source = make_checkpoint(tmp_path / "source", "big_bird", "BigBirdModel", **blocks)
    checkpoint = load_checkpoint(str(source))
    assert checkpoint.max_tokens == 28
    assert checkpoint.notes == [
        "texts of more than 28 tokens, which it reads in random blocks, are not answered"
    ]
    pipeline = Pipeline.open(exports.export(source, "big-bird"), threads=1)
    texts = [text for text in TEXTS if len(text.split()) < 20]
    original = Exported(source, source).original
    original.max_tokens = 28
    found = pipeline.embed(texts, normalize=False, overflow="truncate")
    assert measure(found, np.stack([pool(original.hidden(text)) for text in texts])) < NEAR
    whole = {"num_random_blocks": 5}
    change_json(source / "config.json", **whole)
    assert load_checkpoint(str(source)).max_tokens == 60
