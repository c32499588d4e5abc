"""A run's folder is claimed once, and a command ends with a status and a sentence."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from models.errors import BundleDamaged
from training.errors import DataMissing, RunDamaged, RunExists, RunMismatch, StorageFull
from training.run import add_budget, check_room, claim_directory, positive, run_command

OPTIONS: dict[str, Any] = {"layers": 2, "corpus": ("a", "b"), "minutes": None, "rate": 1e-3}


def test_a_new_folder_is_claimed(tmp_path: Path) -> None:
    claim_directory(tmp_path / "runs" / "one", OPTIONS)
    written = json.loads((tmp_path / "runs/one/run.json").read_text())
    assert written == OPTIONS | {"corpus": ["a", "b"]}


def test_an_empty_folder_too(tmp_path: Path) -> None:
    claim_directory(tmp_path, OPTIONS)
    assert (tmp_path / "run.json").exists()


def test_the_same_options_come_back(tmp_path: Path) -> None:
    claim_directory(tmp_path, OPTIONS)
    before = (tmp_path / "run.json").read_bytes()
    claim_directory(tmp_path, OPTIONS)
    assert (tmp_path / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("layers", 3, "a run with layers 2, not 3"),
        ("corpus", ("a",), r"a run with corpus \['a', 'b'\], not \['a'\]"),
        ("minutes", 5.0, "a run with minutes None, not 5.0"),
        ("seed", 1, "a run with seed None, not 1"),
    ],
)
def test_other_options_are_named(tmp_path: Path, name: str, value: object, told: str) -> None:
    claim_directory(tmp_path, OPTIONS)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunMismatch, match=told):
        claim_directory(tmp_path, OPTIONS | {name: value})
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(RunExists, match="holds something else"):
        claim_directory(tmp_path, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunExists):
        claim_directory(tmp_path / "run", OPTIONS)


def test_a_record_that_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"layers": 2, "cor')
    with pytest.raises(RunDamaged, match=r"run\.json"):
        claim_directory(tmp_path, OPTIONS)


def test_room_for_the_state_is_looked_for(tmp_path: Path) -> None:
    check_room(tmp_path, torch.nn.Linear(10, 10))
    huge = torch.nn.Linear(10**7, 10**7, device="meta")
    with pytest.raises(StorageFull, match=r"MB left and the run's state takes 240000\d{4} MB"):
        check_room(tmp_path, huge)


@pytest.mark.parametrize(
    ("problem", "status", "told"),
    [
        (DataMissing("x.xz: no such file [red]."), 1, "error: x.xz: no such file [red].\n"),
        (BundleDamaged("bundle is cut"), 1, "error: bundle is cut\n"),
        (KeyboardInterrupt(), 130, "Stopped. The same command goes on from the last saved state."),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    problem: BaseException, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_given: argparse.Namespace, _console: Console) -> None:
        raise problem

    assert run_command(command, argparse.Namespace()) == status
    out, err = capsys.readouterr()
    assert err.startswith(told)
    assert not out


def test_what_goes_right_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda _given, _console: None, argparse.Namespace()) == 0
    assert capsys.readouterr() == ("", "")


def test_a_bug_is_not_hidden() -> None:
    def command(_given: argparse.Namespace, _console: Console) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(command, argparse.Namespace())


def test_a_budget_is_minutes_or_steps() -> None:
    parser = argparse.ArgumentParser()
    add_budget(parser)
    assert parser.parse_args(["--minutes", "1.5"]).minutes == 1.5
    assert parser.parse_args(["--steps", "7"]).steps == 7
    for wrong in ([], ["--minutes", "1", "--steps", "1"], ["--minutes", "0"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)


@pytest.mark.parametrize("steps", ["0", "-3", "2.5"])
def test_a_budget_of_no_steps_is_refused(steps: str) -> None:
    """With 0 a run would never end."""
    parser = argparse.ArgumentParser()
    add_budget(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--steps", steps])


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf"])
def test_numbers_that_are_no_budget(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        positive(text)
