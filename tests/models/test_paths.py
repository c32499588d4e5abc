"""What lies at a path: nothing, something, or nobody can say; on every Python the same."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from models.paths import (
    exists,
    follow,
    follow_to_end,
    is_circle,
    is_file,
    is_folder,
    is_taken,
)

EACH = pytest.mark.parametrize("ask", [exists, is_file, is_folder])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-file").symlink_to("file")
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "to-nothing").symlink_to("nothing")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


def test_what_is_there(folder: Path) -> None:
    found = {
        name: (exists(folder / name), is_file(folder / name), is_folder(folder / name))
        for name in ("file", "folder", "to-file", "to-folder")
    }
    is_a_file, is_a_folder = (True, True, False), (True, False, True)
    assert list(found.values()) == [is_a_file, is_a_folder] * 2


@EACH
@pytest.mark.parametrize("name", ["nothing", "to-nothing", "circle", "file/below", "circle/below"])
def test_what_leads_to_nothing(folder: Path, ask: Callable[[Path], bool], name: str) -> None:
    assert not ask(folder / name)
    assert is_taken(folder / name) == (name in ("to-nothing", "circle"))


@EACH
def test_what_nobody_can_say(folder: Path, ask: Callable[[Path], bool]) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        ask(folder / ("x" * 300))
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("ask", [exists, is_file, is_folder, is_taken])
def test_what_another_user_may_not_look_at(ask: Callable[[Path], bool], folder: Path) -> None:
    (folder / "folder").chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            ask(folder / "folder" / "file")
    finally:
        os.seteuid(0)


def test_links_are_followed(folder: Path) -> None:
    assert follow(folder / "to-file") == follow_to_end(folder / "to-file") == folder / "file"
    assert follow(folder / "to-nothing") == folder / "nothing"
    assert follow(folder / "to-folder/below") == folder / "folder/below"
    for name, number in (("nothing", errno.ENOENT), ("circle", errno.ELOOP)):
        with pytest.raises(OSError, match=name) as caught:
            follow_to_end(folder / name)
        assert caught.value.errno == number


def test_a_circle_is_known(folder: Path) -> None:
    assert is_circle(folder / "circle")
    assert is_circle(folder / "circle/below")
    assert is_circle(follow(folder / "circle"))
    for name in ("file", "to-nothing", "nothing", "x" * 300):
        assert not is_circle(folder / name)
