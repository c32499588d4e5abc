"""Texts are drawn as their mix says, the same for the same seed."""

import random

import pytest

from loadtest.texts import LENGTHS, MIXES, Mix


@pytest.mark.parametrize("name", MIXES)
def test_a_mix_has_its_lengths_in_its_shares(name: str) -> None:
    mix = Mix(name, random.Random(1))
    counts = [len(mix.draw().split()) for _ in range(4000)]
    for kind, (low, high) in LENGTHS.items():
        share = sum(low <= count <= high for count in counts) / len(counts)
        assert share == pytest.approx(MIXES[name].get(kind, 0.0), abs=0.03)


def test_the_same_seed_draws_the_same() -> None:
    first, second, other = (Mix("real", random.Random(seed)) for seed in (7, 7, 8))
    texts = [first.draw() for _ in range(20)]
    assert texts == [second.draw() for _ in range(20)]
    assert texts != [other.draw() for _ in range(20)]


def test_one_word_is_hidden() -> None:
    mix = Mix("real", random.Random(1))
    assert all(mix.draw_masked().count("[MASK]") == 1 for _ in range(50))
