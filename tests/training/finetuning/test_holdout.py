"""Sentences held out leave nothing of themselves in training."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import DataTooSmall
from training.finetuning.holdout import find_sentences, hold_out, select
from training.finetuning.labelled import LabelledTexts, read_sentiment
from training.finetuning.sets import read_sets


def label(texts: list[str]) -> LabelledTexts:
    return LabelledTexts(tuple(texts), tuple((n % 2,) for n in range(len(texts))), ("no", "yes"))


def normal(text: str) -> str:
    return f" {' '.join(text.lower().split())} "


@pytest.fixture
def sentiment(data: Path) -> LabelledTexts:
    """Sentences, phrases of theirs, and phrases of others."""
    return read_sentiment(data / "sentiment/train.tsv")


def test_no_text_of_training_is_in_a_sentence_held_out(sentiment: LabelledTexts) -> None:
    train, held = hold_out(sentiment, 100, seed=0)
    assert len(held.texts) == 100
    sentences = [normal(text) for text in held.texts]
    for text in train.texts:
        assert not any(normal(text) in sentence for sentence in sentences), text
    # Nor is more gone than needs be.
    for text in set(sentiment.texts) - set(train.texts):
        assert any(normal(text) in sentence for sentence in sentences), text
    assert len(train.texts) < len(sentiment.texts) - 100


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=9).map(" ".join)


@given(st.lists(WORDS, max_size=20), st.integers(0, 5))
def test_so_it_is_for_any_texts(texts: list[str], count: int) -> None:
    train, held = hold_out(label(texts), count, seed=1)
    sentences = [normal(text) for text in held.texts]
    assert len(held.texts) == min(count, len(find_sentences(tuple(texts))))
    assert not any(normal(text) in one for text in train.texts for one in sentences)


@given(st.lists(WORDS, max_size=20))
def test_a_sentence_is_part_of_no_other_text(texts: list[str]) -> None:
    found = set(find_sentences(tuple(texts)))
    for place, text in enumerate(texts):
        longer = [one for one in texts if normal(text) in normal(one) and one != text]
        first = texts.index(text) == place
        assert (place in found) == (not longer and first and len(text.split()) >= 6), text


def test_case_and_spaces_hide_nothing() -> None:
    data = label(["The  ship was lost in fog today", "WAS lost", "wa", "in\tfog"])
    train, held = hold_out(data, 1, seed=0)
    assert held.texts == ("The  ship was lost in fog today",)
    assert train.texts == ("wa",)


def test_answers_stay_with_their_texts(sentiment: LabelledTexts) -> None:
    known = dict(zip(sentiment.texts, sentiment.answers, strict=True))
    for part in hold_out(sentiment, 50, seed=0):
        assert part.labels == sentiment.labels
        for text, answers in zip(part.texts, part.answers, strict=True):
            assert known[text] == answers


def test_the_same_seed_holds_out_the_same(sentiment: LabelledTexts) -> None:
    assert hold_out(sentiment, 50, seed=3) == hold_out(sentiment, 50, seed=3)
    assert hold_out(sentiment, 50, seed=3)[1] != hold_out(sentiment, 50, seed=4)[1]


def test_some_examples_in_the_order_given() -> None:
    assert select(label(["x", "y", "z"]), [2, 0]).texts == ("z", "x")


def test_too_few_sentences_to_hold_any_out(data: Path, tmp_path: Path) -> None:
    """A tenth of them is not one."""
    for name in ("emotions", "intents", "sts"):
        (tmp_path / name).symlink_to(data / name)
    (tmp_path / "sentiment").mkdir()
    lines = (data / "sentiment/train.tsv").read_text().splitlines()[:8]
    (tmp_path / "sentiment/train.tsv").write_text("\n".join(lines))
    with pytest.raises(DataTooSmall, match=r"sentiment/train\.tsv|sentences"):
        read_sets(tmp_path)
