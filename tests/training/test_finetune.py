"""The finetune command: heads learn, the bundle has them in order, runs resume exactly."""

import shutil
import signal
from pathlib import Path

import pytest

from models import Pipeline
from models.bundle.bundle import Bundle
from tests.training.data import EMOTIONS, INTENTS
from tests.training.runs import (
    ALWAYS,
    FINETUNE_STEPS,
    assert_same_weights,
    count_steps,
    finetune,
    finetune_arguments,
    hold,
    read_log,
)
from training.finetune import main


def test_heads_learn(finetuned: Path) -> None:
    (record,) = read_log(finetuned)
    assert record["step"] == FINETUNE_STEPS
    assert record["intents_accuracy"] > 0.8
    assert record["emotions_f1"] > 0.5
    assert record["similarity_correlation"] > 0.4
    assert 0 <= record["sentiment_accuracy"] <= 1  # needs more than these few seconds


def test_the_bundle_has_the_heads_in_order_with_their_labels(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    heads = {head.name: head for head in manifest.heads if head.task == "classify"}
    assert list(heads) == ["sentiment", "emotions", "intents"]
    assert heads["sentiment"].labels == ("negative", "positive")
    assert heads["emotions"].labels == EMOTIONS
    assert heads["intents"].labels == tuple(sorted(INTENTS))
    functions = [head.function for head in heads.values()]
    assert functions == ["softmax", "sigmoid", "softmax"]
    tasks = ("embed", "fill-mask", "next-sentence", "classify", "token-classify")
    assert manifest.tasks == tasks
    (tags,) = (head for head in manifest.heads if head.task == "token-classify")
    assert (tags.name, tags.labels) == ("entities", ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    assert manifest.max_tokens == 128


def test_the_bundle_pools_as_the_checkpoint_declares(bundle: Path) -> None:
    (embed,) = (head for head in Bundle.open(bundle).manifest.heads if head.task == "embed")
    assert (embed.pooling, embed.pooling_source) == ("mean", "sentence-transformers")


def test_the_bundle_answers_with_the_first_head(bundle: Path) -> None:
    pipeline = Pipeline.open(bundle, threads=1)
    texts = ("the ship was awful and the barn was boring too", "the cow was superb")
    assert pipeline.classify(texts) == pipeline.classify(texts, head="sentiment")


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    data: Path, pretrained: Path, tmp_path: Path
) -> None:
    steps = 24
    whole = finetune(data, pretrained, tmp_path / "whole", steps=steps)
    killed = tmp_path / "killed"
    arguments = finetune_arguments(data, pretrained, killed, steps, save=ALWAYS)
    with hold("training.finetune", arguments, step=2) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert count_steps(killed) == 2
    assert not (killed / "checkpoint").exists()
    finetune(data, pretrained, killed, steps=steps)
    assert_same_weights(whole / "checkpoint", killed / "checkpoint")


def fail(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a command that exits 1."""
    capsys.readouterr()
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_a_run_that_did_not_end(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = finetune_arguments(data, tmp_path / "base", tmp_path / "run", 2)
    assert "base holds no checkpoint. Give as --run the --out" in fail(arguments, capsys)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_corpus_is_gone(
    data: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Path(shutil.copytree(pretrained, tmp_path / "base"))
    shutil.rmtree(base / "corpus")
    arguments = finetune_arguments(data, base, tmp_path / "run", 2)
    assert "corpus holds no tokenised corpus" in fail(arguments, capsys)


@pytest.mark.parametrize(
    "name",
    ["sentiment/train.tsv", "emotions/labels.txt", "emotions/dev.tsv", "intents/val.tsv",
     "sts/dev.csv"],
)  # fmt: skip
def test_a_set_that_is_not_there(
    data: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    world = Path(shutil.copytree(data, tmp_path / "data"))
    (world / name).unlink()
    told = fail(finetune_arguments(world, pretrained, tmp_path / "run", 2), capsys)
    assert f"{world / name}: no such file" in told


def test_other_options_in_the_same_folder(
    data: Path, pretrained: Path, finetuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = finetune_arguments(data, pretrained, finetuned, FINETUNE_STEPS)
    told = fail([*arguments, "--seed", "3"], capsys)
    assert "holds a run with seed 0, not 3" in told


def test_a_damaged_state(
    data: Path, pretrained: Path, finetuned: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    record = (finetuned / "run.json").read_text()
    (run / "run.json").write_text(record)
    (run / "state.pt").write_bytes((finetuned / "state.pt").read_bytes()[:1000])
    told = fail(finetune_arguments(data, pretrained, run, FINETUNE_STEPS), capsys)
    assert f"{run / 'state.pt'} cannot be read" in told
