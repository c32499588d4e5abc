"""What an export prints is all on one screen, and complete."""

from pathlib import Path

import pytest

from export.console import Console, show_bundle
from models.bundle.bundle import Bundle


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
