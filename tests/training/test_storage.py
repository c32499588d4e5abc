"""The state on disk is whole or it is the last one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.disk import full_disk
from tests.training.runs import ROOT
from training.errors import RunDamaged, StorageFull
from training.storage import append_record, read_state, trim_records, write_state

_FULL_DISK = """
import sys
from pathlib import Path
import torch
from tests.training.disk import full_disk
from training.errors import StorageFull
from training.storage import write_state

path = Path(sys.argv[1])
write_state({"step": 1, "weights": torch.ones(100)}, path)
with full_disk(200_000):
    try:
        write_state({"step": 2, "weights": torch.ones(1_000_000)}, path)
    except StorageFull as full:
        print(full)
"""


def test_what_was_written_is_read(tmp_path: Path) -> None:
    weights = torch.randn(7)
    write_state({"weights": weights, "step": 3, "names": ["a"]}, tmp_path / "state.pt")
    state = read_state(tmp_path / "state.pt")
    assert torch.equal(state.pop("weights"), weights)
    assert state == {"step": 3, "names": ["a"]}
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_what_a_kill_left_half_written_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_state({"step": 1}, path)
    (tmp_path / "state.pt.new").write_bytes(b"half")
    assert read_state(path) == {"step": 1}
    write_state({"step": 2}, path)
    assert read_state(path) == {"step": 2}
    assert [one.name for one in tmp_path.iterdir()] == ["state.pt"]


def test_a_full_disk_leaves_the_last_state(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, path],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path} could not be written (")
    assert "The last good state still stands" in done.stdout
    state = read_state(path)
    assert (state["step"], len(state["weights"])) == (1, 100)
    assert [one.name for one in tmp_path.iterdir()] == ["state.pt"]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match=r"state\.pt could not be written"):
        write_state({"step": 1}, tmp_path / "gone" / "state.pt")


# Of torch, about pickles that are none.
IGNORE = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The bytes of a good state."""
    write_state({"step": 1, "weights": torch.arange(64.0)}, tmp_path / "whole.pt")
    return (tmp_path / "whole.pt").read_bytes()


def test_a_state_cut_short_anywhere(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "state.pt"
    for size in range(0, len(whole), 29):
        path.write_bytes(whole[:size])
        with pytest.raises(RunDamaged, match=r"state\.pt cannot be read"):
            read_state(path)


@IGNORE
def test_a_byte_changed_anywhere(tmp_path: Path, whole: bytes) -> None:
    """Not every change can be seen; where one is, it is told as damage and nothing else."""
    path = tmp_path / "state.pt"
    refused = 0
    for place in range(0, len(whole), 13):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        try:
            read_state(path)
        except RunDamaged:
            refused += 1
    assert refused > 10


@IGNORE
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01.", b"PK\x03\x04", b"\0" * 500])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(RunDamaged, match=r"state\.pt cannot be read"):
        read_state(tmp_path / "state.pt")


def test_code_in_a_state_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"trap": Trap()}, tmp_path / "state.pt")
    with pytest.raises(RunDamaged):
        read_state(tmp_path / "state.pt")
    assert not (tmp_path / "sprung").exists()


def test_records_are_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for step in (1, 2, 3):
        append_record({"step": step}, log)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


def test_records_of_steps_to_come_are_dropped(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    trim_records(log, 5)
    assert not log.exists()
    for step in (1, 5, 6, 9):
        append_record({"step": step}, log)
    trim_records(log, 5)
    assert log.read_text() == '{"step": 1}\n{"step": 5}\n'


def test_a_record_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2, "lo')
    trim_records(log, 5)
    append_record({"step": 3}, log)
    assert log.read_text() == '{"step": 1}\n{"step": 3}\n'


def test_no_room_for_a_record(tmp_path: Path) -> None:
    with full_disk(100), pytest.raises(StorageFull, match=r"log\.jsonl could not be written"):
        append_record({"step": "1" * 200}, tmp_path / "log.jsonl")
