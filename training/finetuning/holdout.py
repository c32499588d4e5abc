"""Holds sentences out of a set of phrases so that nothing of them is left in training.

SST-2's training set holds sentences and the phrases they were parsed into; a sentence is judged
honestly only when every phrase that occurs in it is gone from training.
"""

import random
from collections import Counter

from training.finetuning.labelled import LabelledTexts

_MIN_WORDS = 6  # shorter texts are phrases whose sentence is not in the set


def hold_out(data: LabelledTexts, count: int, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
    """(training, held out): the texts that are part of no held-out one, and `count` sentences.

    A whole sentence is a text that is part of no other text. The same seed holds out the same.
    """
    sentences = find_sentences(data.texts)
    random.Random(seed).shuffle(sentences)  # noqa: S311 - a sample, not a secret
    chosen = sorted(sentences[:count])
    together = "\n".join(f" {_normalize(data.texts[place])} " for place in chosen)
    kept = [
        place for place, text in enumerate(data.texts) if f" {_normalize(text)} " not in together
    ]
    return select(data, kept), select(data, chosen)


def find_sentences(texts: tuple[str, ...]) -> list[int]:
    """The places of the texts, of six words at least, that are part of no other text."""
    normal = [_normalize(text) for text in texts]
    frequency = Counter(word for text in normal for word in set(text.split()))
    holders: dict[str, list[int]] = {}  # by word, the texts so far that have it, longest first
    sentences = []
    for place in sorted(range(len(texts)), key=lambda p: (-len(normal[p]), p)):
        words = normal[place].split()
        if not words:
            continue
        rarest = min(words, key=lambda word: frequency[word])
        padded = f" {normal[place]} "
        is_part = any(padded in f" {normal[other]} " for other in holders.get(rarest, ()))
        for word in set(words):
            holders.setdefault(word, []).append(place)
        if not is_part and len(words) >= _MIN_WORDS:
            sentences.append(place)
    return sorted(sentences)


def select(data: LabelledTexts, places: list[int]) -> LabelledTexts:
    """Some of the examples, in the order given."""
    return LabelledTexts(
        tuple(data.texts[place] for place in places),
        tuple(data.answers[place] for place in places),
        data.labels,
    )


def _normalize(text: str) -> str:
    return " ".join(text.lower().split())
