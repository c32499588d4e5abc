"""Texts are cut from the corpus as next-sentence prediction needs them."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from training.pretraining.pairs import FOLLOWS, FOREIGN, NO_PAIR, Texts, cut_texts
from training.text.store import TokenStore, tokenize_documents

ROOM = 40


@pytest.fixture
def texts(store: TokenStore) -> Texts:
    """The texts of one epoch."""
    return cut_texts(store, ROOM, (1, 2))


def find_document(store: TokenStore, token: int) -> int:
    """The document in which a token stands."""
    sentence = np.searchsorted(store.sentences, token, side="right") - 1
    return int(np.searchsorted(store.documents, sentence, side="right")) - 1


@pytest.mark.parametrize("room", [8, 17, 40, 128])
def test_no_text_is_longer_than_allowed(store: TokenStore, room: int) -> None:
    cut = cut_texts(store, room, (3,))
    assert cut.length.max() <= room
    assert np.all(cut.spans[:, 0] < cut.spans[:, 1])
    paired = cut.label != NO_PAIR
    assert np.all(cut.spans[paired, 2] < cut.spans[paired, 3])
    assert not cut.spans[~paired, 2:].any()


def test_sentences_too_long_for_a_pair_stand_alone(tokenizer: Tokenizer) -> None:
    """Cutting would happen to pairs that follow alone, and give the answer away."""
    long, other = "ship " * 70 + ".", "barn " * 90 + "."
    documents = [[f"{long} Anchor {other}", f"Choir {other}"], [f"{other} Oven {long}"]] * 30
    cut = cut_texts(tokenize_documents(documents, tokenizer), 128, (0,))
    assert set(cut.label.tolist()) == {NO_PAIR}
    assert cut.length.max() <= 128


def test_what_follows_is_the_next_sentence_of_its_document(store: TokenStore, texts: Texts) -> None:
    borders = set(store.sentences.tolist())
    follows = texts.spans[texts.label == FOLLOWS].tolist()
    assert follows
    for begin, end, other, other_end in follows:
        assert end == other
        assert {begin, end, other_end} <= borders
        assert find_document(store, begin) == find_document(store, other_end - 1)


def test_what_does_not_follow_is_of_another_document(store: TokenStore, texts: Texts) -> None:
    borders = set(store.sentences.tolist())
    foreign = texts.spans[texts.label == FOREIGN].tolist()
    assert foreign
    for begin, end, other, other_end in foreign:
        assert {begin, end, other, other_end} <= borders
        assert find_document(store, begin) == find_document(store, end - 1)
        assert find_document(store, other) == find_document(store, other_end - 1)
        assert find_document(store, begin) != find_document(store, other)


def test_about_half_of_the_pairs_follow(store: TokenStore) -> None:
    labels = np.concatenate([cut_texts(store, ROOM, (seed,)).label for seed in range(8)])
    paired = labels[labels != NO_PAIR]
    assert len(paired) > 1000
    assert 0.45 < np.mean(paired == FOLLOWS) < 0.55
    assert 0.1 < np.mean(labels == NO_PAIR) < 0.45


def test_lengths_do_not_tell_what_follows(store: TokenStore) -> None:
    epochs = [cut_texts(store, ROOM, (seed,)) for seed in range(8)]
    seconds = np.concatenate([np.diff(one.spans)[:, 2] for one in epochs])
    labels = np.concatenate([one.label for one in epochs])
    means = [seconds[labels == kind].mean() for kind in (FOLLOWS, FOREIGN)]
    assert means[0] == pytest.approx(means[1], rel=0.1)


def test_every_sentence_is_in_one_text_of_an_epoch(store: TokenStore, texts: Texts) -> None:
    """As its first segment, or as what follows it; foreign ones replace some."""
    begins = texts.spans[:, 0].tolist()
    assert begins == sorted(set(begins))
    own = [
        token
        for (begin, end, other, other_end), label in zip(texts.spans, texts.label, strict=True)
        for token in (*range(begin, end), *(range(other, other_end) if label == FOLLOWS else ()))
    ]
    assert len(own) == len(set(own))
    assert len(own) > 0.6 * len(store.tokens)


def test_the_same_seed_gives_the_same_texts(store: TokenStore, texts: Texts) -> None:
    again = cut_texts(store, ROOM, (1, 2))
    assert np.array_equal(again.spans, texts.spans)
    assert np.array_equal(again.label, texts.label)
    other = cut_texts(store, ROOM, (1, 3))
    assert not np.array_equal(other.spans[:50], texts.spans[:50])
