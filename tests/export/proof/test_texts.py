"""The texts of the proof: of all lengths, the same in every run, in the model's own words."""

import pytest

from export.proof.texts import SENTENCES, ProofTexts, find_words
from tests.helpers.checkpoints import FAMILIES, WORDS, make_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_of_the_vocabulary(family: str) -> None:
    words = find_words(make_tokenizer(family))
    assert set(WORDS) <= set(words)
    assert words == sorted(set(words))
    assert not any("<" in word or "[" in word for word in words)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_the_proof(family: str) -> None:
    tokenizer = make_tokenizer(family)
    texts = ProofTexts(tokenizer, 64)
    singles = texts.singles(64)
    lengths = [len(tokenizer(text)["input_ids"]) for text in singles]
    assert len(singles) == 64
    assert set(SENTENCES) <= set(singles)
    assert min(lengths) <= 4
    assert sum(length > 64 for length in lengths) >= 2
    assert len(set(lengths)) > 12
    pairs = texts.pairs(40)
    assert len(pairs) == 40
    longer = [len(first) > len(second) for first, second in pairs]
    assert 10 < sum(longer) < 30
    masked = texts.masked(40)
    masks = [text.count(tokenizer.mask_token) for text in masked]
    assert min(masks) == 1
    assert max(masks) == 3
    again = ProofTexts(tokenizer, 64)
    assert (again.singles(64), again.pairs(40), again.masked(40)) == (singles, pairs, masked)


def test_few_texts_are_cut_to_the_count() -> None:
    texts = ProofTexts(make_tokenizer("bert"), 64)
    assert texts.singles(3) == list(SENTENCES[:3])
    assert len(texts.pairs(2)) == 2
