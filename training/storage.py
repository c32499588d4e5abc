"""Writes a run's state whole or not at all, and reads it back."""

import json
import os
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
    except Exception as damage:  # torch raises whatever the damaged bytes lead it to
        raise RunDamaged(
            f"{path} cannot be read ({type(damage).__name__}). It was not written by this "
            "program, or was damaged since; start over in another directory with --out."
        ) from damage
    return state


def append_record(record: dict[str, Any], path: Path) -> None:
    """Adds a line of JSON to a log. Raises StorageFull."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        with path.open("a", encoding="utf-8") as log:
            # A line that was cut off by a full disk must not swallow the next one.
            cut = "\n" if before and not before.endswith("\n") else ""
            log.write(f"{cut}{json.dumps(record)}\n")
    except OSError as failure:
        raise StorageFull(f"{path} could not be written ({failure}). Make room.") from failure


def trim_records(path: Path, last_step: int) -> None:
    """Drops the lines of a log after a step: those that a resumed run will write again."""
    if not path.exists():
        return
    kept = [record for record in read_records(path) if record["step"] <= last_step]
    try:
        write_text("".join(json.dumps(record) + "\n" for record in kept), path)
    except OSError as failure:
        raise StorageFull(f"{path} could not be written ({failure}). Make room.") from failure


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a log, without a last line that was cut off when its writer was killed."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def write_text(text: str, path: Path) -> None:
    """Replaces a file in one move. Raises OSError, and then the last one stands."""
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
