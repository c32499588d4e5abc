"""The manifest is what the format says, and survives being written and read."""

import json
from pathlib import Path

from models.bundle.bundle import MANIFEST, Bundle
from models.bundle.manifest import FORMAT_VERSION, Manifest, head_file, trunk_file

# The contract: what a reader of version 1 finds.
FIELDS = {
    "format_version",
    "name",
    "family",
    "layout",
    "max_tokens",
    "hidden_size",
    "layers",
    "vocabulary_size",
    "position_start",
    "segments",
    "truncation_side",
    "special_tokens",
    "tasks",
    "heads",
    "precisions",
    "files",
    "source",
    "tools",
    "parity",
    "fused_attention",
    "proof",
}


def test_fields_of_version_one(pretraining_bundle: Path) -> None:
    content = json.loads((pretraining_bundle / MANIFEST).read_text())
    assert FORMAT_VERSION == 2
    # What an older reader answers rightly is written for it.
    assert content["format_version"] == 1
    assert set(content) == set(Manifest.model_fields) == FIELDS
    manifest = Bundle.open(pretraining_bundle).manifest
    assert manifest.model_dump(mode="json") == content
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_contents(pretraining_bundle: Path, heads_bundle: Path, minilm_bundle: Path) -> None:
    tiny = Bundle.open(pretraining_bundle).manifest
    assert (tiny.family, tiny.layout, tiny.segments) == ("bert", "flat", True)
    assert (tiny.max_tokens, tiny.hidden_size, tiny.layers) == (64, 32, 2)
    assert tiny.tasks == ("embed", "fill-mask", "next-sentence")
    assert {kind: token.token for kind, token in tiny.special_tokens.items()} == {
        "pad": "[PAD]",
        "cls": "[CLS]",
        "sep": "[SEP]",
        "mask": "[MASK]",
        "unk": "[UNK]",
    }
    assert tiny.special_tokens["mask"].id == 4
    assert tiny.source.architecture == "BertForPreTraining"
    assert {row.task for row in tiny.parity} == set(tiny.tasks)
    assert all(row.largest_difference <= row.limit for row in tiny.parity)
    heads = Bundle.open(heads_bundle).manifest
    assert heads.tasks == ("embed", "classify")
    assert [(head.task, head.name, head.file) for head in heads.heads] == [
        ("embed", None, None),
        ("classify", "sentiment", "head.classify.sentiment.onnx"),
        ("classify", "topics", "head.classify.topics.onnx"),
    ]
    assert heads.heads[2].labels == ("arts", "politics", "science", "sports")
    minilm = Bundle.open(minilm_bundle).manifest
    assert (minilm.name, minilm.max_tokens, minilm.hidden_size) == ("all-MiniLM-L6-v2", 256, 384)
    assert minilm.heads[0].pooling == "mean"
    assert minilm.heads[0].pooling_source == "sentence-transformers"


def test_names_of_files() -> None:
    assert trunk_file("int8") == "trunk.int8.onnx"
    assert head_file("fill-mask", None) == "head.fill-mask.onnx"
    assert head_file("classify", "mood") == "head.classify.mood.onnx"
