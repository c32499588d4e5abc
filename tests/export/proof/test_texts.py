"""The texts of the proof: of all lengths, the same in every run, in the model's own words."""

from typing import Any

import pytest
from tokenizers import Regex, normalizers

from export.errors import SourceError
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


def make_ascii_tokenizer() -> Any:
    """As cramming's: whatever is not ASCII is dropped."""
    tokenizer = make_tokenizer("bert")
    dropped = normalizers.Replace(Regex(r"[^\x00-\x7F]+"), "")
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([backend.normalizer, dropped])
    return tokenizer


def test_texts_without_tokens_are_left_out() -> None:
    tokenizer = make_ascii_tokenizer()
    texts = ProofTexts(tokenizer, 64)
    singles, pairs, masked = texts.singles(64), texts.pairs(40), texts.masked(40)
    assert (len(singles), len(pairs), len(masked)) == (64, 40, 40)
    for text in [*singles, *masked, *(text for pair in pairs for text in pair)]:
        assert tokenizer(text, add_special_tokens=False)["input_ids"], text
    left_out = set(SENTENCES) - set(singles)
    assert len(left_out) == 2
    assert not any(text.isascii() for text in left_out)


def test_lines_without_tokens_are_left_out_too() -> None:
    tokenizer = make_ascii_tokenizer()
    assert ProofTexts(tokenizer, 64, ["one", "日本", "two"]).singles(9) == ["one", "two"]
    with pytest.raises(SourceError, match="fewer than two of the texts given have tokens"):
        ProofTexts(tokenizer, 64, ["one", "日本"])


def test_one_text_of_all_is_as_long_as_a_long_model_takes() -> None:
    tokenizer = make_tokenizer("bert")
    texts = ProofTexts(tokenizer, 8192)
    drawn = [texts.singles(64), texts.singles(64)]
    lengths = [[len(tokenizer(text)["input_ids"]) for text in part] for part in drawn]
    assert sum(length >= 8192 for part in lengths for length in part) == 1
    assert max(lengths[0]) >= 2 * 8192
    assert sorted(lengths[0])[-2] <= 1026
    assert max(lengths[1]) <= 1026
    pairs = texts.pairs(40)
    assert max(len(tokenizer(*pair)["input_ids"]) for pair in pairs) <= 1027
