"""The pretrain command: it learns, resumes exactly, stops well and says what is wrong."""

import json
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertForPreTraining

from tests.training.data import write_documents
from tests.training.runs import (
    ALWAYS,
    assert_same_weights,
    count_steps,
    hold,
    pretrain,
    pretrain_arguments,
    read_log,
)
from training.pretrain import main


def test_the_loss_falls(pretrained: Path) -> None:
    (record,) = read_log(pretrained)
    assert record["step"] == 150
    # A guess among some 120 words in use has a loss of 4.8.
    assert record["validation_mlm_loss"] < 3.5
    assert record["validation_mlm_accuracy"] > 0.25
    assert (pretrained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_checkpoint_opens_in_transformers(pretrained: Path) -> None:
    model = BertForPreTraining.from_pretrained(pretrained / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "checkpoint")
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (1, 64)
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.model_max_length == model.config.max_position_embeddings == 128
    encoded = tokenizer("The ship", "a barn")
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert (tokens[0], tokens[-1], tokens.count("[SEP]")) == ("[CLS]", "[SEP]", 2)
    assert encoded["token_type_ids"][0] == 0
    assert encoded["token_type_ids"][-1] == 1


def test_another_run_of_the_same_command_gives_the_same_weights(
    data: Path, vocabulary: Path, tmp_path: Path
) -> None:
    one, other = (pretrain(data, tmp_path / name, vocabulary, 6) for name in ("one", "other"))
    assert_same_weights(one / "checkpoint", other / "checkpoint")


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    data: Path, vocabulary: Path, tmp_path: Path
) -> None:
    steps = 60
    whole = pretrain(data, tmp_path / "whole", vocabulary, steps)
    killed = tmp_path / "killed"
    arguments = pretrain_arguments(data, killed, vocabulary, steps, save=ALWAYS)
    with hold("training.pretrain", arguments, step=3) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert count_steps(killed) == 3
    pretrain(data, killed, vocabulary, steps)
    assert_same_weights(whole / "checkpoint", killed / "checkpoint")
    steps_logged = [record["step"] for record in read_log(killed)]
    assert steps_logged == sorted(set(steps_logged))


@pytest.mark.slow
def test_an_interrupt_saves_and_the_run_goes_on_exactly(
    data: Path, vocabulary: Path, tmp_path: Path
) -> None:
    """No save is due yet; the step that it comes in is made whole first."""
    steps = 60
    whole = pretrain(data, tmp_path / "whole", vocabulary, steps)
    stopped = tmp_path / "stopped"
    arguments = pretrain_arguments(data, stopped, vocabulary, steps)
    with hold("training.pretrain", arguments, step=20) as process:
        assert read_log(stopped) == []
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "The same command goes on" in told
    assert not (stopped / "checkpoint").exists()
    assert count_steps(stopped) == 21
    assert [record["step"] for record in read_log(stopped)] == [21]
    pretrain(data, stopped, vocabulary, steps)
    assert_same_weights(whole / "checkpoint", stopped / "checkpoint")


def test_a_run_goes_on_from_a_checkpoint(data: Path, pretrained: Path, tmp_path: Path) -> None:
    """It knows at the first step what the checkpoint knew."""
    again = tmp_path / "again"
    arguments = pretrain_arguments(data, again, pretrained / "tokenizer.json", 1)
    assert main([*arguments, "--from", str(pretrained / "checkpoint")]) == 0
    (before,), (after,) = read_log(pretrained), read_log(again)
    assert abs(after["validation_mlm_loss"] - before["validation_mlm_loss"]) < 0.5


def test_a_checkpoint_of_other_sizes(
    data: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = pretrain_arguments(data, tmp_path / "run", pretrained / "tokenizer.json", 1)
    start = ["--from", str(pretrained / "checkpoint"), "--layers", "2"]
    told = fail([*arguments, *start], capsys)
    assert "has num_hidden_layers 1, and this run would have 2" in told


def test_a_checkpoint_that_is_none(
    data: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = pretrain_arguments(data, tmp_path / "run", pretrained / "tokenizer.json", 1)
    assert "none is no checkpoint" in fail([*arguments, "--from", str(tmp_path / "none")], capsys)


def test_a_finished_run_stays_as_it_is(data: Path, vocabulary: Path, tmp_path: Path) -> None:
    run = pretrain(data, tmp_path / "run", vocabulary, 2)
    before, log = (run / "checkpoint/model.safetensors").read_bytes(), read_log(run)
    pretrain(data, run, vocabulary, 2)
    assert (run / "checkpoint/model.safetensors").read_bytes() == before
    assert read_log(run) == log


def fail(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a command that exits 1."""
    capsys.readouterr()
    assert main(arguments) == 1
    told = capsys.readouterr().err.strip()
    (line,) = (line for line in told.splitlines() if line.startswith("error: "))
    assert told.endswith(line)
    return line


def test_data_that_is_not_there(
    tmp_path: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = pretrain_arguments(tmp_path / "nowhere", tmp_path / "run", vocabulary)
    assert "nowhere/wiki/train-*.jsonl.xz: no such file" in fail(arguments, capsys)
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_that_is_not_there(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = pretrain_arguments(data, tmp_path / "run", tmp_path / "no.json")
    assert "no.json: no such file" in fail(arguments, capsys)


def test_a_file_that_was_cut_short(
    data: Path, tmp_path: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("wiki/train-0.jsonl.xz", "wiki/validation.jsonl.xz", "books/train-0.jsonl.xz"):
        whole = (data / name).read_bytes()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(whole[: len(whole) // 2] if "books" in name else whole)
    arguments = pretrain_arguments(tmp_path, tmp_path / "run", vocabulary)
    told = fail(arguments, capsys)
    assert "books/train-0.jsonl.xz: ends in the middle after line" in told


def test_a_corpus_of_one_document(
    data: Path, tmp_path: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_documents(tmp_path / "one.jsonl.xz", [["The ship sank. The sailor swam."]])
    arguments = pretrain_arguments(tmp_path, tmp_path / "run", vocabulary)
    arguments += ["--corpus", "one.jsonl.xz", "--validation", "one.jsonl.xz"]
    assert "The corpus has 1 document(s)" in fail(arguments, capsys)


@pytest.fixture(scope="module")
def short_run(data: Path, vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, to be broken by the tests below."""
    return pretrain(data, tmp_path_factory.mktemp("short") / "run", vocabulary, 2)


@pytest.mark.parametrize(
    "change",
    [
        ("--layers", "2", "layers 1, not 2"),
        ("--learning-rate", "0.5", "learning_rate 0.01, not 0.5"),
        ("--seed", "7", "seed 0, not 7"),
        ("--corpus", "books/*.xz", "corpus"),
    ],
)
def test_other_options_in_the_same_folder(
    data: Path, short_run: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str],
    change: tuple[str, str, str],
) -> None:  # fmt: skip
    option, value, named = change
    before = (short_run / "state.pt").read_bytes()
    arguments = [*pretrain_arguments(data, short_run, vocabulary, 2), option, value]
    assert named in fail(arguments, capsys)
    assert (short_run / "state.pt").read_bytes() == before


def test_more_steps_in_the_same_folder(
    data: Path, short_run: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = fail(pretrain_arguments(data, short_run, vocabulary, 3), capsys)
    assert "steps 2, not 3" in told


def test_a_damaged_state(
    data: Path, short_run: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = short_run / "state.pt"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    try:
        told = fail(pretrain_arguments(data, short_run, vocabulary, 2), capsys)
    finally:
        state.write_bytes(whole)
    assert f"{state} cannot be read" in told


def test_a_state_of_another_program(
    data: Path, short_run: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = short_run / "state.pt"
    whole = state.read_bytes()
    torch.save({"epoch": 3}, state)
    try:
        told = fail(pretrain_arguments(data, short_run, vocabulary, 2), capsys)
    finally:
        state.write_bytes(whole)
    assert str(state) in told


def test_a_line_of_the_log_that_was_cut_short(
    data: Path, short_run: Path, vocabulary: Path
) -> None:
    """As a kill or a full disk leaves it: the run goes on all the same."""
    log = short_run / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 2, "tok')
    pretrain(data, short_run, vocabulary, 2)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2]


def test_a_file_in_place_of_the_folder(
    data: Path, tmp_path: Path, vocabulary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("")
    assert "run" in fail(pretrain_arguments(data, tmp_path / "run", vocabulary), capsys)
