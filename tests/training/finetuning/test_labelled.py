"""Each set is read in its own form; what is wrong with a file is said with its line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.data import EMOTIONS, INTENTS, write_lines
from training.errors import DataDamaged, DataMissing, DataTooSmall
from training.finetuning.labelled import (
    read_emotions,
    read_intents,
    read_sentiment,
    read_similarity,
)


def test_sentiment(tmp_path: Path) -> None:
    lines = ["sentence\tlabel", 'a "good" one \t1', "bad , really\t0"]
    data = read_sentiment(write_lines(tmp_path / "s.tsv", lines))
    assert data.texts == ('a "good" one', "bad , really")
    assert data.answers == ((1,), (0,))
    assert data.labels == ("negative", "positive")


def test_emotions(tmp_path: Path) -> None:
    labels = write_lines(tmp_path / "labels.txt", ["joy", "anger", "fear"])
    lines = ['"What, me?\t0,2\te1', "I see\t1\te2"]
    data = read_emotions(write_lines(tmp_path / "e.tsv", lines), labels)
    assert data.texts == ('"What, me?', "I see")
    assert data.answers == ((0, 2), (1,))
    assert data.labels == ("joy", "anger", "fear")


def test_intents(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "t.tsv", ["text\tintent", "play it\tmusic", "a table\tbook"])
    data = read_intents(train)
    assert (data.texts, data.labels) == (("play it", "a table"), ("book", "music"))
    assert data.answers == ((1,), (0,))
    other = write_lines(tmp_path / "v.tsv", ["text\tintent", "play that\tmusic"])
    assert read_intents(other, data.labels).answers == ((1,),)


def test_similarity(tmp_path: Path) -> None:
    lines = ['"A man, a plan.",A canal.,4.25', 'She said ""hi"".,"""Hi"" he said.",0']
    pairs = read_similarity(write_lines(tmp_path / "p.csv", lines))
    assert pairs.firsts[0] == "A man, a plan."
    assert pairs.seconds == ("A canal.", '"Hi" he said.')
    assert pairs.scores == (4.25, 0.0)


def test_the_whole_folder(data: Path) -> None:
    sentiment = read_sentiment(data / "sentiment/train.tsv")
    assert len(sentiment.texts) > 900
    emotions = read_emotions(data / "emotions/dev.tsv", data / "emotions/labels.txt")
    assert (len(emotions.texts), emotions.labels) == (40, EMOTIONS)
    assert read_intents(data / "intents/train.tsv").labels == tuple(sorted(INTENTS))
    assert len(read_similarity(data / "sts/train.csv").scores) == 90


READERS: dict[str, Callable[[Path], Any]] = {
    "sentiment": read_sentiment,
    "emotions": lambda path: read_emotions(path, write_lines(path.with_name("labels"), "ab")),
    "intents": lambda path: read_intents(path, ("book", "music")),
    "similarity": read_similarity,
}
GOOD = {
    "sentiment": ["sentence\tlabel", "fine\t1"],
    "emotions": ["fine\t0\te1"],
    "intents": ["text\tintent", "a table\tbook"],
    "similarity": ["A ship.,A boat.,4.0"],
}


@pytest.mark.parametrize(
    ("kind", "line", "told"),
    [
        ("sentiment", "no label", "has 1 fields instead of 2"),
        ("sentiment", "one\ttoo\t1", "has 3 fields instead of 2"),
        ("sentiment", "", "has 0 fields instead of 2"),
        ("sentiment", "fine\t2", "has the label '2'; labels are below 2"),
        ("sentiment", "fine\tgood", "has the label 'good'"),
        ("sentiment", "fine\t-1", "has the label '-1'"),
        ("sentiment", "fine\t²", "has the label '²'"),
        ("emotions", "fine\t0", "has 2 fields instead of 3"),
        ("emotions", "fine\t0,2\te", "has the label '2'; labels are below 2"),
        ("emotions", "fine\t\te", "has the label ''"),
        ("intents", "fine", "has 1 fields instead of 2"),
        ("intents", "fine\tfly", "has the intent 'fly', which is unknown"),
        ("similarity", "A ship.,A boat.", "has 2 fields instead of 3"),
        ("similarity", "A ship.,A boat.,much", "has the score 'much', no number"),
        ("similarity", "A ship.,A boat.,nan", "has the score 'nan', no number"),
        ("similarity", '"A ship.,A boat.,4.0', "has 1 fields instead of 3"),
    ],
)
def test_damage_names_file_and_line(tmp_path: Path, kind: str, line: str, told: str) -> None:
    path = write_lines(tmp_path / "set", [*GOOD[kind], line])
    with pytest.raises(DataDamaged) as caught:
        READERS[kind](path)
    assert f"{path}: line {len(GOOD[kind]) + 1} {told}" in str(caught.value)


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataMissing, match="set: no such file"):
        READERS[kind](tmp_path / "set")


@pytest.mark.parametrize("kind", READERS)
def test_bytes_that_are_no_text(tmp_path: Path, kind: str) -> None:
    path = write_lines(tmp_path / "set", GOOD[kind])
    path.write_bytes(path.read_bytes() + b"\xff\xfe\xfd")
    with pytest.raises(DataDamaged, match="set is not UTF-8 text"):
        READERS[kind](path)


@pytest.mark.parametrize("kind", READERS)
def test_a_file_without_examples(tmp_path: Path, kind: str) -> None:
    path = write_lines(tmp_path / "set", GOOD[kind][:-1])
    with pytest.raises(DataTooSmall, match="set holds no examples"):
        READERS[kind](path)


def test_a_quotation_mark_without_its_second(tmp_path: Path) -> None:
    """It swallows the rest of the file, however long that is."""
    path = write_lines(tmp_path / "set", ['"A ship.,A boat.,4.0', *["A cow.,A barn.,1.0"] * 9000])
    with pytest.raises(DataDamaged, match="set: line"):
        read_similarity(path)


def test_characters_that_only_look_like_line_ends(tmp_path: Path) -> None:
    """Texts from the web hold them; a line ends with a line feed."""
    text = "one\x0btwo\x85three\u2028four"
    data = read_sentiment(write_lines(tmp_path / "set", ["sentence\tlabel", f"{text}\t1"]))
    assert data.texts == (text,)
