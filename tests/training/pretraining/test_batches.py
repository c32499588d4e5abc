"""Batches hide what BERT hides, ask about it, and leave everything else as it was."""

import numpy as np
import pytest

from training.pretraining.batches import Batch, Epoch
from training.pretraining.pairs import FOREIGN
from training.text.store import TokenStore
from training.text.vocabulary import CLS, MASK, PAD, SEP

WIDTH, VOCABULARY = 40, 120


@pytest.fixture(scope="module")
def epoch(store: TokenStore) -> Epoch:
    """One pass over the corpus."""
    return Epoch(store, WIDTH, seed=0, number=1)


def draw(epoch: Epoch, seed: int, start: int = 0, count: int = 20) -> Batch:
    return epoch.make_batch(start, count, VOCABULARY, np.random.default_rng(seed))


def uncover(batch: Batch) -> np.ndarray:
    """The token ids as they were before the masking."""
    ids = batch.rows.token_ids.flatten()
    ids[batch.masked_cells] = batch.masked_ids
    return ids.reshape(batch.rows.token_ids.shape)


def test_fifteen_percent_of_the_tokens_are_hidden(epoch: Epoch) -> None:
    batch = draw(epoch, 0)
    words = np.count_nonzero(uncover(batch) >= 5)
    assert len(batch.masked_cells) == round(0.15 * words)
    assert len(set(batch.masked_cells.tolist())) == len(batch.masked_cells)


def test_most_become_a_mask_some_another_token_some_stay(epoch: Epoch) -> None:
    shown, gold = [], []
    for seed in range(40):
        batch = draw(epoch, seed)
        shown.append(batch.rows.token_ids.flatten()[batch.masked_cells])
        gold.append(batch.masked_ids)
    ids, was = np.concatenate(shown), np.concatenate(gold)
    assert len(ids) > 3000
    assert np.mean(ids == MASK) == pytest.approx(0.8, abs=0.03)
    # A random token is the right one now and then.
    assert np.mean(ids == was) == pytest.approx(0.1, abs=0.03)
    swapped = ids[(ids != MASK) & (ids != was)]
    assert len(swapped) / len(ids) == pytest.approx(0.1, abs=0.03)
    assert swapped.min() >= 5
    assert len(set(swapped.tolist())) > 50


def test_special_tokens_and_empty_cells_are_never_hidden(epoch: Epoch) -> None:
    for seed in range(10):
        batch = draw(epoch, seed)
        assert batch.masked_ids.min() >= 5
        ids, before = batch.rows.token_ids, uncover(batch)
        for special in (PAD, CLS, SEP):
            assert np.array_equal(ids == special, before == special)


def test_each_draw_hides_other_tokens_of_the_same_rows(epoch: Epoch) -> None:
    one, other, again = draw(epoch, 1), draw(epoch, 2), draw(epoch, 1)
    assert np.array_equal(uncover(one), uncover(other))
    assert set(one.masked_cells.tolist()) != set(other.masked_cells.tolist())
    assert np.array_equal(one.rows.token_ids, again.rows.token_ids)


def test_labels_belong_to_their_pairs(epoch: Epoch, store: TokenStore) -> None:
    batch = draw(epoch, 0)
    ids, types = uncover(batch).flatten(), batch.rows.token_type_ids.flatten()
    assert set(batch.pair_labels.tolist()) == {0, 1}
    stream = store.tokens.tolist()
    lengths = dict(zip(batch.rows.first_cells.tolist(), batch.rows.lengths.tolist(), strict=True))
    checked = 0
    for cell, label in zip(batch.pair_cells.tolist(), batch.pair_labels.tolist(), strict=True):
        assert ids[cell] == CLS
        text = ids[cell : cell + lengths[cell]].tolist()
        kinds = types[cell : cell + lengths[cell]].tolist()
        middle = kinds.index(1)
        assert text[middle - 1] == text[-1] == SEP
        joined = text[1 : middle - 1] + text[middle:-1]
        if label == FOREIGN:
            continue
        assert contains(stream, joined)
        checked += 1
    assert checked > 5


def contains(stream: list[int], part: list[int]) -> bool:
    starts = (place for place, token in enumerate(stream) if token == part[0])
    return any(stream[place : place + len(part)] == part for place in starts)


def test_single_texts_are_not_asked_about(epoch: Epoch) -> None:
    batch = draw(epoch, 0)
    types = batch.rows.token_type_ids.flatten()
    asked = set(batch.pair_cells.tolist())
    cells = zip(batch.rows.first_cells.tolist(), batch.rows.lengths.tolist(), strict=True)
    for cell, length in cells:
        assert (cell in asked) == bool(types[cell : cell + length].any())


def test_an_epoch_reads_every_text_once(epoch: Epoch, store: TokenStore) -> None:
    batches = [draw(epoch, 0, start, 7) for start in range(0, len(epoch), 7)]
    assert sum(len(batch.rows.token_ids) for batch in batches) == len(epoch)
    shown = sum(batch.rows.tokens for batch in batches)
    assert 0.9 * len(store.tokens) < shown
    assert shown > 0.7 * len(epoch) * WIDTH


def test_epochs_differ_and_repeat(store: TokenStore, epoch: Epoch) -> None:
    again, other = (Epoch(store, WIDTH, seed=0, number=number) for number in (1, 2))
    first = uncover(draw(epoch, 0, 0, 3))
    assert np.array_equal(uncover(draw(again, 0, 0, 3)), first)
    assert not np.array_equal(uncover(draw(other, 0, 0, 3)), first)
