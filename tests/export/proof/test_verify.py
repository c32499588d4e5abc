"""A bundle proven anew: equal to its source and its golden answers, or refused with a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main
from export.errors import ProofFailed, SourceError
from export.proof.verify import Texts, verify_against, verify_golden
from models import Pipeline
from models.bundle.bundle import GOLDEN


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
