"""What an export prints is all on one screen, and complete."""

from pathlib import Path

import pytest

from export.console import Console, show_bundle, show_parity
from models.bundle.bundle import Bundle
from models.bundle.manifest import HeadEntry, Parity


def test_a_bundle_is_shown_with_its_proof(
    heads_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    bundle = Bundle.open(heads_bundle)
    show_bundle(bundle, seconds=1.25)
    printed = capsys.readouterr()
    assert printed.err == ""
    for word in (
        "tiny-heads",
        "bert, flat layout",
        bundle.fingerprint,
        "2 fused nodes",
        "mean pooling (option)",
        "2 labels, softmax",
        "4 labels, sigmoid",
        "sentiment",
        "topics",
    ):
        assert word in printed.out
    for row in bundle.manifest.parity:
        assert f"{row.largest_difference:.1e}" in printed.out


def test_two_figures_of_one_head_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what the trunk gives, and of what modules behind the pooling make of it."""
    rows = [
        Parity(
            task=task,
            precision="fp32",
            texts=2,
            tokens=9,
            largest_difference=0.0,
            largest_value=1.0,
            limit=1e-4,
        )
        for task in ("embed", "embed", "classify")
    ]
    show_parity(rows)
    lines = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines() if "fp32" in line]
    assert lines == ["embed, the trunk's rows", "embed, its vectors", "classify"]


def test_one_label_is_not_several(
    classify_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.open(classify_bundle)
    heads = tuple(head.model_copy(update={"labels": ("a",)}) for head in bundle.manifest.heads)
    show_bundle(Bundle(bundle.path, bundle.manifest.model_copy(update={"heads": heads})))
    assert "1 label, softmax" in capsys.readouterr().out


def test_every_head_says_what_it_answers(
    pretraining_bundle: Path,
    reader_bundle: Path,
    inference_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    manifest = Bundle.open(pretraining_bundle).manifest
    represented = manifest.model_copy(
        update={
            "heads": (
                HeadEntry(
                    task="embed",
                    name="sparse",
                    representation="sparse",
                    aggregation="max",
                    dimensions=30522,
                ),
                HeadEntry(task="embed", name="tokens", representation="tokens", dimensions=128),
            )
        }
    )
    for bundle, answers in (
        (Bundle.open(pretraining_bundle), ("words of the vocabulary", "one text follows")),
        (Bundle.open(reader_bundle), ("spans of a context", "3 labels, softmax")),
        (Bundle.open(inference_bundle), ("3 labels, softmax, zero-shot by entailment",)),
        (
            Bundle(pretraining_bundle, represented),
            ("weights of 30,522 words, max of tokens", "a vector of 128 for each token"),
        ),
    ):
        show_bundle(bundle)
        printed = capsys.readouterr().out
        assert all(answer in printed for answer in answers), printed


def test_brackets_in_names_are_only_text(
    classify_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    bundle = Bundle.open(classify_bundle)
    source = bundle.manifest.source.model_copy(update={"name": "a [bold]b[/] [/x]"})
    show_bundle(Bundle(bundle.path, bundle.manifest.model_copy(update={"source": source})))
    assert "a [bold]b[/] [/x]" in capsys.readouterr().out


def test_progress_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Console() as console:
        console.advance()
        console.begin("first step", 2)
        console.advance()
        console.begin("second step")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "first step" in printed.err
    assert "second step" in printed.err
