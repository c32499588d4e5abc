"""Writes a run's state whole or not at all, and reads it back."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from training.errors import RunDamaged, StorageFull


def write_state(state: dict[str, Any], path: Path) -> None:
    """Replaces the file in one move; the last one stands until the new one is complete.

    Raises StorageFull.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as failure:  # torch reports a short write as RuntimeError
        temporary.unlink(missing_ok=True)
        raise StorageFull(
            f"{path} could not be written ({failure}). The last good state still stands; "
            "make room and start the same command again to go on from there."
        ) from failure


def read_state(path: Path) -> dict[str, Any]:
    """The state that write_state wrote. Raises RunDamaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as damage:
        raise RunDamaged(
            f"{path} cannot be read ({type(damage).__name__}). It was not written by this "
            "program, or was damaged since; start over in another directory with --out."
        ) from damage
    return state


def append_record(record: dict[str, Any], path: Path) -> None:
    """Adds a line of JSON to a log. Raises StorageFull."""
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
    except OSError as failure:
        raise StorageFull(f"{path} could not be written ({failure}). Make room.") from failure


def trim_records(path: Path, last_step: int) -> None:
    """Drops the lines of a log after a step: those that a resumed run will write again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if json.loads(line)["step"] <= last_step]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
