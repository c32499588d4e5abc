"""Documents are read in order, and a file that is damaged says where."""

import lzma
from pathlib import Path

import pytest

from tests.training.data import write_documents
from training.errors import DataDamaged, DataMissing
from training.text.documents import find_files, read_documents


def test_documents_come_as_they_were_written(tmp_path: Path) -> None:
    documents = [["One. Two.", "Three — “four”."], [], ["Five\nsix"]]
    assert list(read_documents(write_documents(tmp_path / "a.xz", documents))) == documents


def test_files_are_found_in_order(tmp_path: Path) -> None:
    for name in ("wiki/train-1.xz", "wiki/train-0.xz", "books/b.xz", "wiki/other.xz"):
        write_documents(tmp_path / name, [])
    found = find_files(tmp_path, ("wiki/train-*.xz", "books/*.xz"))
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["wiki/train-0.xz", "wiki/train-1.xz", "books/b.xz"]


def test_a_pattern_without_a_match_is_named(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.xz", [])
    with pytest.raises(DataMissing, match=r"b-\*\.xz: no such file"):
        find_files(tmp_path, ("a.xz", "b-*.xz"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"a\.xz: no such file"):
        next(read_documents(tmp_path / "a.xz"))


def test_a_file_that_was_cut_short_says_after_which_line(tmp_path: Path) -> None:
    # Text that does not compress: what was read before the end is a good part of it.
    documents = [[" ".join(str(pow(3, n + i, 1_000_003)) for i in range(400))] for n in range(300)]
    path = write_documents(tmp_path / "a.xz", documents)
    path.write_bytes(path.read_bytes()[:-5000])
    read = []
    with pytest.raises(DataDamaged, match="cut short") as caught:
        read.extend(read_documents(path))
    assert f"{path}: ends in the middle after line " in str(caught.value)
    line = int(str(caught.value).split("after line ")[1].split(";")[0])
    assert line < 300


@pytest.mark.parametrize("kept", [0, 5, 20])
def test_hardly_anything_left_of_a_file(tmp_path: Path, kept: int) -> None:
    path = write_documents(tmp_path / "a.xz", [["One."]])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataDamaged, match=r"a\.xz: ends in the middle after line 0"):
        list(read_documents(path))


def test_a_file_with_other_bytes_in_it(tmp_path: Path) -> None:
    path = write_documents(tmp_path / "a.xz", [[f"Number {n}."] for n in range(50)])
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(DataDamaged, match=r"a\.xz: damaged after line"):
        list(read_documents(path))


def test_a_file_that_is_not_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.xz").write_text('{"paragraphs": ["One."]}\n')
    with pytest.raises(DataDamaged, match=r"a\.xz: damaged"):
        list(read_documents(tmp_path / "a.xz"))


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON",
        b"[1, 2]",
        b'{"text": "One."}',
        b'{"paragraphs": 5}',
        b'{"paragraphs": "One."}',
        b'{"paragraphs": {"one": 1}}',
        b"",
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: bytes) -> None:
    with lzma.open(tmp_path / "a.xz", "wb") as file:
        file.write(b'{"paragraphs": ["One."]}\n' + line + b"\n")
    with pytest.raises(DataDamaged, match="line 2 is not JSON of the form"):
        list(read_documents(tmp_path / "a.xz"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "a.xz", "wb") as file:
        file.write(b'{"paragraphs": ["One."]}\n{"paragraphs": ["\xff\xfe"]}\n')
    with pytest.raises(DataDamaged, match=r"a\.xz: damaged after line"):
        list(read_documents(tmp_path / "a.xz"))
