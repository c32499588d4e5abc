"""Reads the labelled sets: texts with their answers, in the form each set is published in."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.errors import DataDamaged, DataMissing, DataTooSmall

SENTIMENT_LABELS = ("negative", "positive")


@dataclass(frozen=True)
class LabelledTexts:
    """Texts, and for each the numbers of the labels that hold, of `labels`."""

    texts: tuple[str, ...]
    answers: tuple[tuple[int, ...], ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of texts and how much they mean the same, 0 to 5."""

    firsts: tuple[str, ...]
    seconds: tuple[str, ...]
    scores: tuple[float, ...]


def read_sentiment(path: Path) -> LabelledTexts:
    """SST-2: a header, then sentence and 0 or 1, tab-separated."""
    rows = list(_read_rows(path, 2, header=True))
    answers = tuple((_read_number(path, line, row[1], 2),) for line, row in rows)
    return LabelledTexts(tuple(row[0].strip() for _, row in rows), answers, SENTIMENT_LABELS)


def read_emotions(path: Path, labels_path: Path) -> LabelledTexts:
    """GoEmotions: text, numbers of labels, and an id, tab-separated; the labels in a file."""
    labels = tuple(read_text(labels_path).split())
    rows = list(_read_rows(path, 3))
    answers = tuple(
        tuple(_read_number(path, line, number, len(labels)) for number in row[1].split(","))
        for line, row in rows
    )
    return LabelledTexts(tuple(row[0] for _, row in rows), answers, labels)


def read_intents(path: Path, labels: tuple[str, ...] | None = None) -> LabelledTexts:
    """CLINC150: a header, then text and intent, tab-separated; labels sorted where not given."""
    rows = list(_read_rows(path, 2, header=True))
    known = labels or tuple(sorted({row[1] for _, row in rows}))
    places = {label: place for place, label in enumerate(known)}
    for line, row in rows:
        if row[1] not in places:
            raise DataDamaged(f"{path}: line {line} has the intent {row[1]!r}, which is unknown.")
    answers = tuple((places[row[1]],) for _, row in rows)
    return LabelledTexts(tuple(row[0] for _, row in rows), answers, known)


def read_similarity(path: Path) -> ScoredPairs:
    """STS benchmark: two sentences and a score, comma-separated, no header."""
    rows = list(_read_rows(path, 3, delimiter=","))
    scores = []
    for line, row in rows:
        try:
            score = float(row[2])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise DataDamaged(f"{path}: line {line} has the score {row[2]!r}, no number.")
        scores.append(score)
    return ScoredPairs(
        tuple(row[0] for _, row in rows), tuple(row[1] for _, row in rows), tuple(scores)
    )


def read_text(path: Path) -> str:
    """What stands in a file of a set. Raises DataMissing, DataDamaged."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataMissing(
            f"{path}: no such file. Give the folder of the training data with --data; "
            "training/README.md says what it holds."
        ) from None
    except UnicodeDecodeError as damage:
        raise DataDamaged(f"{path} is not UTF-8 text ({damage}).") from damage


def _read_rows(
    path: Path, columns: int, *, header: bool = False, delimiter: str = "\t"
) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields; each line must have as many fields as the set has columns."""
    # Not splitlines: that also breaks at separators that stand inside a text.
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines == [""]:
        raise DataTooSmall(f"{path} holds no examples.")
    if delimiter == ",":
        rows = csv.reader(lines)
    else:  # tab-separated sets quote nothing: a quotation mark is part of the text
        rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    if header:
        next(rows, None)
    found = False
    try:
        for row in rows:
            if len(row) != columns:
                raise DataDamaged(
                    f"{path}: line {rows.line_num} has {len(row)} fields instead of {columns}; "
                    "the file may be cut short. Copy it again."
                )
            found = True
            yield rows.line_num, row
    except csv.Error as form:
        raise DataDamaged(f"{path}: line {rows.line_num} cannot be read ({form}).") from form
    if not found:
        raise DataTooSmall(f"{path} holds no examples.")


def _read_number(path: Path, line: int, text: str, below: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= below:
        raise DataDamaged(f"{path}: line {line} has the label {text!r}; labels are below {below}.")
    return int(text)
