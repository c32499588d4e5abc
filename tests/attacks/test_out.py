"""OUT in every odd state, and disks that are full: nothing half-written, nothing of others lost."""

import fcntl
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import export.writing.exporter
import export.writing.staging
from export.__main__ import main
from export.errors import OutputError
from export.writing.staging import clear_leftovers, place, stage
from models.bundle.bundle import Bundle
from tests.attacks.test_signals import cheapen
from tests.helpers.checkpoints import write_json


def refuse(source: Path, out: Path | str, *options: str) -> None:
    assert main([str(source), str(out), *options]) == 5


def test_out_that_cannot_be_written(
    trunk_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "directory").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "directory")
    for out, sentence in (
        (tmp_path, "exists; remove it, choose another OUT, or give --replace"),
        (tmp_path / "directory", "exists"),
        (tmp_path / "linked", "exists"),
        (file, "exists"),
        (tmp_path / "link", "exists"),
        (file / "bundle", "cannot be made"),
        (file / "deeper" / "bundle", "cannot be made"),
        (tmp_path / "link" / "bundle", "cannot be"),
        (tmp_path / ("x" * 300), "cannot be"),
        (Path("/proc/bundle"), "cannot be written"),
        (tmp_path / os.fsdecode(b"caf\xe9"), "give --name"),
    ):
        refuse(trunk_source, out)
        error = capsys.readouterr().err
        assert sentence in error
        assert "Traceback" not in error
    assert file.read_text() == "mine"
    names = ["directory", "file", "link", "linked"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert list((tmp_path / "directory").iterdir()) == []


def test_out_here_or_above(
    trunk_source: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A bundle, and so one that --replace may take away; but it is where the command stands."""
    (bundle / "deeper").mkdir()
    monkeypatch.chdir(bundle)
    refuse(trunk_source, ".", "--replace")
    assert "give one as OUT" in capsys.readouterr().err
    monkeypatch.chdir(bundle / "deeper")
    refuse(trunk_source, "..", "--replace")
    assert Bundle.open(bundle)


def test_only_a_bundle_is_replaced(
    trunk_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("mine", "mine/letter", "link"):
        refuse(trunk_source, tmp_path / name, "--replace")
        assert "is not a bundle" in capsys.readouterr().err
    assert (tmp_path / "mine/letter").read_text() == "mine"


def test_a_source_is_never_replaced(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Even one that looks like a bundle, or lies in one."""
    before = sorted(path.name for path in source.iterdir())
    refuse(source, source)
    for out in (source, source.parent):
        write_json(out / "manifest.json", {})
        refuse(source, out, "--replace")
        assert "holds the source" in capsys.readouterr().err
        (out / "manifest.json").unlink()
    assert sorted(path.name for path in source.iterdir()) == before


def test_out_inside_the_source(source: Path) -> None:
    """Nothing there is changed, and the source can be exported again."""
    before = {path: path.read_bytes() for path in source.iterdir()}
    assert main([str(source), str(source / "bundle")]) == 0
    assert {path: path.read_bytes() for path in source.iterdir() if path.is_file()} == before
    assert Bundle.open(source / "bundle").manifest.tasks == ("embed",)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; skips where this user may not mount one."""
    folder.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", options, "none", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("mounting a file system is root's right")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_out_on_a_disk_for_reading(
    trunk_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", "size=1m,ro") as disk:
        for out in (disk / "bundle", disk / "deeper" / "bundle"):
            refuse(trunk_source, out)
            assert "cannot be" in capsys.readouterr().err
        assert list(disk.iterdir()) == []


def test_a_full_disk(
    pretraining_source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of every size until the bundle fits: full at each of its files."""
    for name, function in cheapen().items():
        monkeypatch.setattr(export.writing.exporter, name, function)
    for pages in range(1, 40):
        with mounted(tmp_path / "disk", f"size={pages * 4}k") as disk:
            out = disk / "new" / "bundle"
            code = main([str(pretraining_source), str(out), "--tasks", "next-sentence"])
            if code == 0:
                assert Bundle.open(out).manifest.tasks == ("next-sentence",)
                break
            assert code == 5
            assert "nothing was left there" in capsys.readouterr().err
            assert list(disk.iterdir()) == []
    assert 3 < pages < 39


def test_a_disk_too_small_for_the_trunk(
    pretraining_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch's own exporter writes it."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        refuse(pretraining_source, disk / "bundle", "--tasks", "embed")
        assert "nothing was left there" in capsys.readouterr().err
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("limit", [1, 40_000])
def test_files_that_may_not_grow(
    trunk_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: int
) -> None:
    """The same by a limit on files, which needs nobody's right."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        refuse(trunk_source, tmp_path / "new" / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large; nothing was left there" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_parents_that_were_made_go_again(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "bundle"
    with pytest.raises(ValueError, match="stop"), stage(out) as folder:  # noqa: PT012
        assert folder.parent == out.parent
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    with stage(out) as folder:
        place(folder, out, replace=False)
    assert out.is_dir()


def leave(out: Path, suffix: str = "partial") -> Path:
    """What an export that was killed leaves."""
    folder = out.parent / f".{out.name}.abcd_123.{suffix}"
    write_json(folder / "tokenizer.json", {})
    return folder


def test_leftovers_are_removed_and_told(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    left = leave(out)
    # Neither what others are called, nor what is not a directory of ours.
    mine = [leave(tmp_path / "bundle2"), leave(tmp_path / "undle"), tmp_path / ".bundle.x.partial"]
    (tmp_path / ".bundle.x.partial").mkdir()
    (tmp_path / ".bundle.abcdefgh.partial").symlink_to(tmp_path)
    (tmp_path / ".bundle.12345678.partial").write_text("mine")
    assert clear_leftovers(out) == [f"{left} is removed, which an export that was killed had left"]
    assert not left.exists()
    assert all(path.exists() for path in mine)
    assert (tmp_path / ".bundle.12345678.partial").read_text() == "mine"
    assert (tmp_path / ".bundle.abcdefgh.partial").is_symlink()


def test_what_another_export_is_making_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with stage(out) as folder:
        (folder / "tokenizer.json").write_text("{}")
        assert clear_leftovers(out) == []
        with stage(out) as other:
            assert other != folder
        assert (folder / "tokenizer.json").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_was_moved_aside_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    leave(out, "replaced")
    (note,) = clear_leftovers(out)
    assert note == f"{out} is back, which an export that was killed had moved away"
    assert (out / "tokenizer.json").exists()
    # With a bundle at OUT, the one before it is only a leftover.
    left = leave(out, "replaced")
    assert "is removed" in clear_leftovers(out)[0]
    assert not left.exists()


def test_a_folder_that_is_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = export.writing.staging._lock
    taken: list[Path] = []

    def lock_too_late(folder: Path) -> int:
        if not taken:
            taken.append(folder)
            folder.rmdir()
        return lock(folder)

    monkeypatch.setattr(export.writing.staging, "_lock", lock_too_late)
    with stage(tmp_path / "bundle") as folder:
        assert folder.exists()
        assert folder != taken[0]


def test_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_lock(*_: object) -> None:
        raise OSError(37, "No locks available")

    left = leave(tmp_path / "bundle")
    monkeypatch.setattr(fcntl, "flock", refuse_lock)
    with stage(tmp_path / "bundle") as folder:
        assert clear_leftovers(tmp_path / "bundle") == []
        place(folder, tmp_path / "bundle", replace=False)
    assert left.exists()


@pytest.mark.parametrize("exchange", [True, False])
def test_replacing_is_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exchange: bool
) -> None:
    out = tmp_path / "bundle"
    write_json(out / "old", {})
    if not exchange:
        monkeypatch.setattr(export.writing.staging, "_exchange", lambda *_: False)
    with stage(out) as folder:
        write_json(folder / "new", {})
        place(folder, out, replace=True)
    assert [path.name for path in out.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "bundle"
    write_json(out / "old", {})
    monkeypatch.setattr(export.writing.staging, "_exchange", lambda *_: False)
    with pytest.raises(OutputError, match="cannot be written"), stage(out) as folder:  # noqa: PT012
        folder.rmdir()
        folder.touch()
        rename = Path.rename

        def fail(self: Path, target: Path) -> Path:
            if self == folder:
                raise OSError(5, "Input/output error")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail)
        monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))
        place(folder, out, replace=True)
    monkeypatch.undo()
    assert (out / "old").exists()
    for left in tmp_path.glob(".bundle.*"):
        assert left.is_file()
