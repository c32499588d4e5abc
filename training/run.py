"""The folder of a run: claimed once, resumed only by the command that began it."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from models.errors import ClozeError
from training.errors import RunDamaged, RunExists, RunMismatch, StorageFull, TrainingError
from training.storage import write_text

_BYTES_PER_WEIGHT = 4 * 3 * 2  # weight and two moments; the new state beside the last


def claim_directory(directory: Path, options: dict[str, Any]) -> None:
    """Makes a run's folder, or finds it to be of a run with the same options.

    Raises RunMismatch or RunExists; nothing in the folder is changed then.
    """
    record = directory / "run.json"
    wanted = json.loads(json.dumps(options))
    if directory.exists() and not directory.is_dir():
        raise RunExists(f"{directory} is a file. Give an empty or new folder as --out.")
    if record.exists():
        found = _read_options(record)
        for name in sorted(wanted):
            if found.get(name) != wanted[name]:
                raise RunMismatch(
                    f"{directory} holds a run with {name} {found.get(name)}, not {wanted[name]}. "
                    "Resume it with its own options, or give another --out."
                )
        return
    if directory.exists() and any(directory.iterdir()):
        raise RunExists(f"{directory} holds something else. Give an empty or new folder as --out.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_text(json.dumps(wanted, indent=1) + "\n", record)
    except OSError as failure:
        raise StorageFull(f"{directory} cannot be made ({failure}). Give another --out.") from None


def _read_options(record: Path) -> dict[str, Any]:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as damage:
        raise RunDamaged(
            f"{record} cannot be read ({damage}). Start over in another directory with --out."
        ) from None
    return found if isinstance(found, dict) else {}


def check_room(directory: Path, model: torch.nn.Module) -> None:
    """Raises StorageFull where the state of a run over these weights does not fit."""
    needed = sum(weight.numel() for weight in model.parameters()) * _BYTES_PER_WEIGHT
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise StorageFull(
            f"{directory} has {free / 1e6:.0f} MB left and the run's state takes "
            f"{needed / 1e6:.0f} MB. Make room before hours are spent."
        )


def run_command(
    command: Callable[[argparse.Namespace, Console], None], given: argparse.Namespace
) -> int:
    """The exit status of a command: 0, 1 with one sentence, or 130 when stopped and saved."""
    console = Console(stderr=True)
    try:
        command(given, console)
    except (TrainingError, ClozeError) as problem:
        console.print(f"error: {problem}", highlight=False, soft_wrap=True, markup=False)
        return 1
    except OSError as failure:  # a full disk, a folder that may not be written to
        console.print(f"error: {failure}", highlight=False, soft_wrap=True, markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from the last saved state.")
        return 130
    return 0


def add_budget(parser: argparse.ArgumentParser) -> None:
    """The options every run has: its budget, how often it is saved, and its seed."""
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=positive, help="time to train for")
    budget.add_argument(
        "--steps", type=natural, help="or a number of steps, to repeat a run exactly"
    )
    parser.add_argument("--save-every", type=positive, default=120.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def natural(text: str) -> int:
    """A whole number from 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
