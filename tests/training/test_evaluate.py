"""The evaluate command: every figure of the model card, as transformers gives them too."""

import json
from pathlib import Path

import pytest
import scipy.stats
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification

from training.evaluate import main
from training.finetuning.sets import Part, read_sets

FIGURES = {
    "fill-mask top-1",
    "fill-mask top-5",
    "as trained (80/10/10) top-1",
    "next-sentence accuracy",
    "sentiment accuracy",
    "emotions micro-F1",
    "emotions macro-F1",
    "intents accuracy",
    "similarity Spearman",
    "entities span F1",
}


@pytest.fixture(scope="module")
def figures(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The figures of the bundle, as the command writes them."""
    file = tmp_path_factory.mktemp("figures") / "figures.json"
    assert main(_arguments(data, bundle, file)) == 0
    return read_figures(file)


def read_figures(file: Path) -> dict[str, float]:
    """Values by name; each is told with what it was measured on."""
    written = json.loads(file.read_text())
    assert all(figure["over"] for figure in written)
    return {figure["name"]: figure["value"] for figure in written}


def _arguments(data: Path, bundle: Path, file: Path) -> list[str]:
    options = ("--data", data, "--passages", 30, "--pairs", 50, "--json", file)
    return [str(bundle), *map(str, options)]


@pytest.fixture(scope="module")
def held_out(data: Path) -> Part:
    """What the figures are measured on."""
    return read_sets(data)[1]


def test_every_figure_is_there(figures: dict[str, float]) -> None:
    assert set(figures) == FIGURES
    assert all(-1 <= value <= 1 for value in figures.values())
    assert figures["fill-mask top-1"] <= figures["fill-mask top-5"]
    assert figures["fill-mask top-5"] > 0.3


@pytest.fixture
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no line of the table breaks."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("_wide")
def test_every_figure_is_printed(
    data: Path, bundle: Path, figures: dict[str, float], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(_arguments(data, bundle, tmp_path / "again.json")) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, value in figures.items():
        (line,) = (line for line in lines if line.strip().startswith(name))
        assert f"{value:.4f}" in line
    assert read_figures(tmp_path / "again.json") == figures


def test_sentiment_is_that_of_transformers(
    figures: dict[str, float], finetuned: Path, held_out: Part
) -> None:
    checkpoint = finetuned / "checkpoint"
    folder = checkpoint / "heads" / "sentiment"
    model = BertForSequenceClassification(BertConfig.from_pretrained(folder)).float().eval()
    trunk = AutoModel.from_pretrained(checkpoint, dtype=torch.float32)
    model.bert.load_state_dict(trunk.state_dict())
    own = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    assert not model.load_state_dict(own, strict=False).unexpected_keys
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = held_out.heads["sentiment"]
    with torch.no_grad():
        logits = model(**tokenizer(list(texts.texts), padding=True, return_tensors="pt")).logits
    gold = torch.tensor([first for first, *_ in texts.answers])
    wanted = (logits.argmax(-1) == gold).double().mean().item()
    assert figures["sentiment accuracy"] == pytest.approx(wanted, abs=2e-3)


def test_similarity_is_that_of_transformers(
    figures: dict[str, float], finetuned: Path, held_out: Part
) -> None:
    checkpoint = finetuned / "checkpoint"
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    pairs = held_out.similarity
    cosines = []
    for pair in zip(pairs.firsts, pairs.seconds, strict=True):
        with torch.no_grad():
            one, other = (
                model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
                for text in pair
            )
        cosines.append(torch.cosine_similarity(one, other, dim=0).item())
    wanted = scipy.stats.spearmanr(cosines, pairs.scores).statistic
    assert figures["similarity Spearman"] == pytest.approx(wanted, abs=2e-3)


def test_a_bundle_that_is_not_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none"), "--data", str(data)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / "none") in line


def test_data_that_is_not_there(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(bundle), "--data", str(tmp_path)]) == 1
    assert "wiki/validation.jsonl.xz: no such file" in capsys.readouterr().err
