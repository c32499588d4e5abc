"""Texts for the proof: of every length the model takes, in words of its own vocabulary.

Seeded, so that the same checkpoint is proven on the same texts. No text comes from anywhere else.
Left out are those that a tokenizer has no tokens for: it may drop whatever is not ASCII, say.
"""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from export.errors import SourceError

SENTENCES = (
    "The river rose overnight and the bridge was closed by morning.",
    "She counted the coins twice, then pushed them back across the table.",
    "Why would anyone paint a lighthouse green?",
    "Order no. 4,711 was shipped on 3 March; it weighs 2.5 kg.",
    "Le café était fermé, alors nous avons marché jusqu'au musée.",
    "Die Brücke über den Fluss ist für größere Lastwagen gesperrt.",
    "El niño preguntó cuándo volvería el tren de las ocho.",
    "Η γάτα κοιμάται κάτω από το τραπέζι.",
    "Поезд отправляется через десять минут.",
    "今日は雨が降っているので、家で本を読みます。",
    "القطار يغادر بعد عشر دقائق",
    "Great work 🎉 see you at 10:30 👋",
    "import numpy as np; x = np.zeros((3, 4))",
    "naïve coöperation, e\u0301tude with a combining accent",
    "It wasn't the answer that mattered, it was who'd asked.",
    "ALL CAPITALS, lower case and MiXeD",
)
_LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 103, 124)
# Where a model takes longer texts than these, one of all is as long as it takes: what attention
# computes of it grows with the square of its length.
_ORDINARY = 512
_SEED = 20181011


class ProofTexts:
    """Makes texts for one tokenizer; every call goes on where the last one ended."""

    def __init__(self, tokenizer: Any, max_tokens: int, lines: Sequence[str] | None = None) -> None:
        self._lines = lines
        self._random = random.Random(_SEED)  # noqa: S311 - texts, not secrets
        self._tokenizer = tokenizer
        self._words = find_words(tokenizer)
        self._sentences = tuple(filter(self._has_tokens, SENTENCES))
        if len(self._sentences) < len(SENTENCES):
            self._words = list(filter(self._has_tokens, self._words)) or self._words
        if lines is not None:
            self._lines = tuple(filter(self._has_tokens, lines))
            if len(self._lines) < 2:
                raise SourceError(
                    "fewer than two of the texts given have tokens that the model knows of; give "
                    "others"
                )
        self._mask = tokenizer.mask_token
        self._max_tokens = max_tokens
        self._longest = max_tokens

    def singles(self, count: int) -> list[str]:
        """Texts of mixed lengths: sentences, words of the vocabulary, and two of full length.

        Of a model that takes more than ordinary lengths, the first call alone has one as long.
        """
        if self._lines is not None:
            return list(self._lines)
        longest = [self._write(length * 2) for length in self._choose_longest()]
        texts = [*self._sentences, *longest]
        while len(texts) < count:
            texts.append(self._write(self._length(len(texts))))
        return texts[:count]

    def _choose_longest(self) -> tuple[int, int]:
        ordinary = min(self._max_tokens, _ORDINARY)
        longest, self._longest = self._longest, ordinary
        return ordinary, longest

    def pairs(self, count: int) -> list[tuple[str, str]]:
        """Pairs, the first half of each as likely the longer one as the second."""
        if self._lines is not None:
            return list(pairwise(self._lines))
        ordinary = min(self._max_tokens, _ORDINARY)
        longest = (self._write(ordinary), self._write(ordinary))
        spoken = self._sentences[: len(self._sentences) // 2 * 2]
        pairs = [longest, *zip(spoken[::2], spoken[1::2], strict=True)]
        while len(pairs) < count:
            first, second = (self._length(self._random.randrange(100)) for _ in range(2))
            pairs.append((self._write(first), self._write(second)))
        return pairs[:count]

    def masked(self, count: int) -> list[str]:
        """Texts of up to a hundred words in which one to three words are masked."""
        texts = []
        for number in range(count if self._lines is None else len(self._lines)):
            words = self._choose(number).split()
            for _ in range(self._random.choice((1, 1, 2, 3))):
                words[self._random.randrange(len(words))] = self._mask
            texts.append(" ".join(words))
        return texts

    def _choose(self, number: int) -> str:
        given = self._sentences if self._lines is None else self._lines
        return given[number] if number < len(given) else self._write(self._length(number))

    def _has_tokens(self, text: str) -> bool:
        return bool(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _length(self, number: int) -> int:
        return min(_LENGTHS[number % len(_LENGTHS)], self._max_tokens)

    def _write(self, words: int) -> str:
        return " ".join(self._random.choices(self._words, k=words))


def find_words(tokenizer: Any) -> list[str]:
    """Words that are one token each, for as many tokens of the vocabulary as have one."""
    special = set(tokenizer.all_special_tokens)
    words = set()
    for token in tokenizer.get_vocab():
        word = token.lstrip("Ġ▁")
        if word.isalpha() and token not in special:
            words.add(word)
    return sorted(words) or ["word"]
