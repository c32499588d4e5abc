"""A bundle proven anew: equal to its source and its golden answers, or refused with a sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from export.__main__ import main
from export.errors import ProofFailed, SourceError
from export.writing.verify import Texts, verify_against, verify_golden
from models import Pipeline
from models.bundle.bundle import GOLDEN
from tests.helpers.checkpoints import change_json, make_checkpoint, write_json
from tests.helpers.fixtures import MakeFolder
from tests.helpers.store import Store

SENTENCES = "config_sentence_transformers.json"
MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def test_golden_answers_come_out_as_written(
    pretraining_bundle: Path, heads_bundle: Path, minilm_bundle: Path, reader_bundle: Path
) -> None:
    for bundle in (pretraining_bundle, heads_bundle, minilm_bundle, reader_bundle):
        pipeline = Pipeline.open(bundle)
        figures = verify_golden(pipeline)
        assert [(row.task, row.head) for row in figures] == [
            (head.task.name, head.entry.name) for head in pipeline.heads
        ]
        assert all(0 <= row.largest_difference <= row.limit for row in figures)
        assert all(row.texts >= 12 for row in figures)


@pytest.mark.parametrize("task", ["embed", "fill-mask", "next-sentence"])
def test_another_golden_answer_is_found(
    pretraining_bundle: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    pipeline = Pipeline.open(pretraining_bundle)
    file = pretraining_bundle / GOLDEN
    golden = json.loads(file.read_bytes())
    answers = next(row for row in golden["tasks"] if row["task"] == task)["cases"]
    match task:
        case "embed":
            answers[3]["answer"][0] += 0.001
        case "fill-mask":
            answers[3]["answer"][0]["scores"][0] += 0.001
        case _:
            answers[3]["answer"] += 0.001
    original = Path.read_bytes
    monkeypatch.setattr(
        Path,
        "read_bytes",
        lambda path: json.dumps(golden).encode() if path == file else original(path),
    )
    with pytest.raises(ProofFailed, match=f"{task} differs from the golden answers"):
        verify_golden(pipeline)


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("token-classify", {"score": 0.001}),
        ("token-classify", {"label": "another", "score": 0.95}),
        ("token-classify", {"start": 99}),
        ("answer", {"score": 0.9}),
        ("answer", {"start": 99, "score": 0.9}),
    ],
)
def test_another_entity_and_another_span_are_found(
    reader_bundle: Path, monkeypatch: pytest.MonkeyPatch, task: str, change: dict[str, Any]
) -> None:
    file = reader_bundle / GOLDEN
    golden = json.loads(file.read_bytes())
    cases = next(row for row in golden["tasks"] if row["task"] == task)["cases"]
    cases[3]["answer"][0].update(change)
    original = Path.read_bytes
    monkeypatch.setattr(
        Path,
        "read_bytes",
        lambda path: json.dumps(golden).encode() if path == file else original(path),
    )
    with pytest.raises(ProofFailed, match=f"{task} differs from the golden answers"):
        verify_golden(Pipeline.open(reader_bundle))


def test_against_a_source_of_readers(reader_source: Path, reader_bundle: Path) -> None:
    figures = verify_against(Pipeline.open(reader_bundle), str(reader_source))
    assert [(row.task, row.head, row.texts) for row in figures] == [
        ("embed", None, 96),
        ("answer", None, 64),
        ("token-classify", "people", 64),
    ]


def test_against_the_source_on_texts_of_ones_own(
    pretraining_source: Path, pretraining_bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("one text\n\nanother one, longer\nand a third\n")
    pipeline = Pipeline.open(pretraining_bundle)
    figures = verify_against(pipeline, str(pretraining_source), Texts.read(file))
    texts = {row.task: row.texts for row in figures}
    assert texts == {"embed": 5, "fill-mask": 3, "next-sentence": 2}
    assert all(row.largest_difference <= row.limit for row in figures)


def test_another_checkpoint_is_told_apart(
    minilm_source: Path, minilm_bundle: Path, pretraining_bundle: Path
) -> None:
    with pytest.raises(ProofFailed, match="has no head for fill-mask, next-sentence"):
        verify_against(Pipeline.open(pretraining_bundle), str(minilm_source))
    assert verify_against(Pipeline.open(minilm_bundle), str(minilm_source))[0].texts == 96


def change(file: str, **changes: Any) -> Callable[[Path], Any]:
    return lambda source: change_json(source / file, **changes)


def forget_segments(source: Path) -> None:
    file = source / "tokenizer.json"
    file.write_text(file.read_text().replace('"type_id": 1', '"type_id": 0'))
    # BertTokenizer would make its own template of it.
    change_json(source / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def add_dense(source: Path) -> None:
    folder = source / "2_Dense"
    write_json(folder / "config.json", {"in_features": 32, "out_features": 8})
    weights = {"linear.weight": torch.randn(8, 32), "linear.bias": torch.zeros(8)}
    save_file(weights, folder / "model.safetensors")
    dense = {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    write_json(source / "modules.json", [*MODULES, dense])


def number(*labels: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": None}


# What a classifier's files may say otherwise, with the same weights.
CLASSIFIERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "labels": (
        change("config.json", **number("positive", "neutral", "negative")),
        "of classify, the source calls class 0 'positive', the bundle 'negative'",
    ),
    "one label": (
        change("config.json", **number("negative", "neutral", "glad")),
        "of classify, the source calls class 2 'glad', the bundle 'positive'",
    ),
    "problem type": (
        change("config.json", problem_type="multi_label_classification"),
        "of classify, the source has problem_type 'multi_label_classification', the bundle "
        "'single_label_classification'; of classify, the source has function 'sigmoid', the bundle "
        "'softmax'",
    ),
    "activation": (
        change(
            "config.json", sbert_ce_default_activation_function="torch.nn.modules.linear.Identity"
        ),
        "of classify, the source has function 'none', the bundle 'softmax'",
    ),
    "length": (
        change("tokenizer_config.json", model_max_length=32),
        "the source takes 32 tokens, the bundle 64: ",
    ),
    "where texts are cut": (
        change("tokenizer_config.json", truncation_side="left"),
        "the source has truncation_side 'left', the bundle 'right'",
    ),
    "segments": (forget_segments, "the source has segments False, the bundle True"),
    "pooling": (
        lambda source: (
            write_json(source / "modules.json", MODULES),
            write_json(source / "1_Pooling" / "config.json", {"pooling_mode": "cls"}),
        ),
        "of embed, the source has pooling 'cls', the bundle 'mean'",
    ),
}


@pytest.mark.parametrize("what", CLASSIFIERS)
def test_a_source_that_means_something_else_by_the_same_numbers(
    classify_source: Path, classify_bundle: Path, tmp_path: Path, what: str
) -> None:
    source = Path(shutil.copytree(classify_source, tmp_path / "source"))
    damage, sentence = CLASSIFIERS[what]
    damage(source)
    with pytest.raises(ProofFailed) as refusal:
        verify_against(Pipeline.open(classify_bundle), str(source))
    assert refusal.value.message.startswith(sentence)
    assert f"{classify_bundle} does not answer as {source} does" in refusal.value.message


@pytest.fixture(scope="module")
def sentences_source(make_folder: MakeFolder) -> Path:
    """A tiny sentence-transformers model that says all there is to say."""
    folder = make_checkpoint(make_folder("sentences") / "source", "bert", "BertModel")
    write_json(folder / "modules.json", MODULES)
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    prompts = {"query": "find: ", "document": ""}
    said = {"prompts": prompts, "default_prompt_name": "query", "truncate_dim": 16}
    write_json(folder / SENTENCES, said | {"similarity_fn_name": "cosine"})
    return folder


VECTORS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "prompts": (
        change(SENTENCES, prompts={"query": "seek: ", "document": ""}),
        "the source has prompts {'query': 'seek: ', 'document': ''}, the bundle {'query': 'find: '",
    ),
    "default prompt": (
        change(SENTENCES, default_prompt_name="document"),
        "the source has default_prompt 'document', the bundle 'query'",
    ),
    "no default prompt": (
        change(SENTENCES, default_prompt_name=None),
        "the source has default_prompt none, the bundle 'query'",
    ),
    "dimensions": (
        change(SENTENCES, truncate_dim=8),
        "the source has default_dimensions 8, the bundle 16",
    ),
    "similarity": (
        change(SENTENCES, similarity_fn_name="dot"),
        "the source has similarity 'dot', the bundle 'cosine'",
    ),
    "pooling": (
        change("1_Pooling/config.json", pooling_mode="max"),
        "the source has pooling 'max', the bundle 'mean'",
    ),
    "prompts pooled": (
        change("1_Pooling/config.json", include_prompt=False),
        "the source has include_prompt False, the bundle True",
    ),
    "modules": (add_dense, "the source projects its vectors, the bundle does not"),
}


@pytest.mark.parametrize("what", VECTORS)
def test_a_source_whose_vectors_are_asked_for_otherwise(
    sentences_source: Path, exports: Store, tmp_path: Path, what: str
) -> None:
    bundle = exports.export(sentences_source, "tiny-sentences")
    source = Path(shutil.copytree(sentences_source, tmp_path / "source"))
    damage, sentence = VECTORS[what]
    damage(source)
    with pytest.raises(ProofFailed) as refusal:
        verify_against(Pipeline.open(bundle), str(source))
    assert f"of embed, {sentence}" in refusal.value.message


def test_another_number_of_labels(
    classify_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["negative", "neutral", "positive", "mixed"]
    source = make_checkpoint(
        tmp_path / "source", "bert", "BertForSequenceClassification", labels=labels
    )
    assert main(["verify", str(classify_bundle), "--against", str(source)]) == 6
    assert "the source has 4 labels, the bundle 3" in capsys.readouterr().err


def test_texts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    with pytest.raises(SourceError, match=r"texts\.txt cannot be read"):
        Texts.read(file)
    file.write_text("alone\n")
    with pytest.raises(SourceError, match="fewer than two lines"):
        Texts.read(file)


def test_command_line(
    pretraining_bundle: Path, pretraining_source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(pretraining_bundle)]) == 0
    assert "next-sentence" in capsys.readouterr().out
    assert main(["verify", str(pretraining_bundle), "--against", str(pretraining_source)]) == 0
    assert main(["verify", str(pretraining_bundle / "nowhere")]) == 2
    assert "no bundle at" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main(["verify", str(pretraining_bundle), "--texts", "some.txt"])
    assert left.value.code == 2
