"""Reads texts whose words have tags, and asks of a tokenizer's pieces what was asked of words.

The form is IOB2 (Tjong Kim Sang and Veenstra 1999): a word and its tag a line, a blank line after
each sentence; B begins an entity, I goes on with it, O is none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from training.errors import DataDamaged, DataTooSmall
from training.finetuning.labelled import read_text
from training.rows import Ids

# Of a piece nothing is asked: torch's cross-entropy leaves it out.
IGNORED = -100
_OUTSIDE = "O"


@dataclass(frozen=True)
class Span:
    """An entity: its label, and from which to which character of the text it goes."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class TaggedTexts:
    """Texts, words with a blank between, and the entities of each; `labels` are the tags."""

    texts: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...]
    labels: tuple[str, ...]


def read_entities(path: Path, labels: tuple[str, ...] | None = None) -> TaggedTexts:
    """Texts in IOB2. Tags are sorted, O first, where they are not given; others are then none.

    Raises DataMissing, DataDamaged, DataTooSmall.
    """
    texts: list[str] = []
    spans: list[tuple[Span, ...]] = []
    for words, tags in _read_sentences(path):
        texts.append(" ".join(words))
        spans.append(tuple(_join(words, tags)))
    if not texts:
        raise DataTooSmall(f"{path} holds no sentences.")
    if labels is None:
        kinds = sorted({span.label for each in spans for span in each})
        labels = (_OUTSIDE, *(f"{part}-{kind}" for kind in kinds for part in "BI"))
    known = {label[2:] for label in labels}
    kept = tuple(tuple(span for span in each if span.label in known) for each in spans)
    return TaggedTexts(tuple(texts), kept, labels)


def _read_sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*read_text(path).split("\n"), ""], start=1):
        fields = line.rstrip("\r").split("\t")
        if fields == [""]:
            if words:
                yield words, tags
            words, tags = [], []
        elif not line.startswith("#"):
            if len(fields) < 2 or not fields[0].strip() or not _is_tag(fields[1]):
                raise DataDamaged(
                    f"{path}: line {number} is no word with its tag (O, B-KIND or I-KIND), but "
                    f"{line[:60]!r}. Copy it again."
                )
            words.append(fields[0].strip())
            tags.append(fields[1])


def _is_tag(text: str) -> bool:
    return text == _OUTSIDE or (text[:2] in {"B-", "I-"} and len(text) > 2)


def _join(words: Sequence[str], tags: Sequence[str]) -> Iterator[Span]:
    """The entities of a sentence; one that begins with I is taken for one all the same."""
    place = begin = end = 0
    label = ""
    for word, tag in zip(words, tags, strict=True):
        goes_on = tag[:2] == "I-" and tag[2:] == label
        if label and not goes_on:
            yield Span(begin, end, label)
        if not goes_on:
            begin, label = place, tag[2:]
        end = place + len(word)
        place = end + 1
    if label:
        yield Span(begin, end, label)


def encode_tags(tokenizer: Tokenizer, data: TaggedTexts, width: int) -> list[tuple[Ids, Ids]]:
    """For each text its tokens, [CLS] and [SEP] among them, at most so many, and their tags.

    The first piece of an entity begins it, all others go on with it.
    """
    numbers = {label: number for number, label in enumerate(data.labels)}
    found = []
    for encoding, spans in zip(tokenizer.encode_batch(list(data.texts)), data.spans, strict=True):
        tags = np.full(len(encoding.ids), IGNORED, np.int64)
        for place, (start, end) in enumerate(encoding.offsets):
            if start < end:
                tags[place] = numbers[_find_tag(start, spans)]
        ids = np.array(encoding.ids, np.int64)
        if len(ids) > width:
            ids, tags = (np.concatenate([each[: width - 1], each[-1:]]) for each in (ids, tags))
        found.append((ids, tags))
    return found


def _find_tag(start: int, spans: Sequence[Span]) -> str:
    for span in spans:
        if span.start <= start < span.end:
            return f"{'B' if start == span.start else 'I'}-{span.label}"
    return _OUTSIDE
