"""The texts every part measures with: three kinds, seeded, in arrival order.

A word is one token of the model's vocabulary, so that a length in words is a length in tokens
(and two more, for [CLS] and [SEP]). Word counts are lognormal, cut to a least and a most.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.text.encoder import Encoder

SEED = 20181011
_LEAST_LETTERS = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """A distribution of word counts, and how many texts of it are drawn."""

    name: str
    mu: float
    sigma: float
    least: int
    most: int
    texts: int


KINDS = (
    Kind("short", 2.5, 0.45, 3, 48, texts=512),
    Kind("mixed", 3.4, 0.8, 4, 250, texts=256),
    Kind("long", 5.1, 0.4, 80, 250, texts=128),
)


def draw_texts(kind: Kind, words: Sequence[str]) -> list[str]:
    """The texts of a kind, the same ones each time for the same words."""
    chance = np.random.default_rng([SEED, *kind.name.encode()])
    counts = chance.lognormal(kind.mu, kind.sigma, kind.texts).round()
    return [
        " ".join(words[place] for place in chance.integers(len(words), size=count))
        for count in counts.clip(kind.least, kind.most).astype(int).tolist()
    ]


def list_words(encoder: Encoder) -> list[str]:
    """The whole words of the vocabulary, each of which is exactly one token, sorted."""
    words = sorted(
        word
        for word in encoder.tokenizer.get_vocab()
        if len(word) >= _LEAST_LETTERS and word.isascii() and word.isalpha() and word.islower()
    )
    encoded = encoder.tokenizer.encode_batch(words, add_special_tokens=False)
    return [word for word, one in zip(words, encoded, strict=True) if len(one.ids) == 1]
