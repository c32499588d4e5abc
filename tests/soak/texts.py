"""The texts that a soak asks about: of all lengths, in words that are one token each."""

import random

from benchmarks.texts import list_words
from models.text.encoder import Encoder

ITEMS = 32


class Texts:
    """Draws texts; `some` are those that several kinds share."""

    def __init__(self, encoder: Encoder, chance: random.Random) -> None:
        self.encoder = encoder
        self.words = list_words(encoder)
        self._most = encoder.max_tokens - 2
        self._chance = chance
        self.some = [self.draw() for _ in range(ITEMS)]

    def draw(self) -> str:
        """From one token to as many as the model takes, mostly a sentence or two."""
        count = round(min(self._most, max(2, self._chance.lognormvariate(3.0, 0.8))))
        if self._chance.random() < 0.1:
            count = self._chance.choice([1, self._most])
        return self._join(count)

    def mask(self) -> str:
        """A text with one or two masks."""
        found = self.draw().split()
        for _ in range(self._chance.choice([1, 1, 2])):
            found[self._chance.randrange(len(found))] = "[MASK]"
        return " ".join(found)

    def pair(self) -> tuple[str, str]:
        """Two texts that fit into one input."""
        half = self._most // 2 - 1
        first, second = (" ".join(self.draw().split()[:half]) for _ in range(2))
        return first, second

    def too_long(self) -> str:
        """A text that has to be cut."""
        return self._join(2 * self._most)

    def _join(self, count: int) -> str:
        return " ".join(self._chance.choices(self.words, k=count))
