"""The vocabulary is a BERT's: special tokens first, texts framed as BERT frames them."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from training.errors import DataDamaged, DataMissing
from training.text.vocabulary import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIAL_TOKENS,
    UNK,
    read_vocabulary,
    save_vocabulary,
    train_vocabulary,
)


def test_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert (PAD, UNK, CLS, SEP, MASK) == (0, 1, 2, 3, 4)
    assert tokenizer.encode("[MASK] [PAD]", add_special_tokens=False).ids == [MASK, PAD]


def test_the_size_is_kept() -> None:
    texts = ["a ship and a barn and a harbour"] * 3
    assert train_vocabulary(texts, 30).get_vocab_size() == 30


def test_words_of_the_corpus_are_one_piece(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode("The SHIP wàs near", add_special_tokens=False)
    assert encoded.tokens == ["the", "ship", "was", "near"]
    assert tokenizer.decode(encoded.ids) == "the ship was near"


def test_other_words_are_several(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("shipping", add_special_tokens=False).tokens
    assert tokens[0] == "ship"
    assert all(token.startswith("##") for token in tokens[1:])
    assert tokenizer.encode("日", add_special_tokens=False).ids == [UNK]


def test_one_text_is_framed(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode("ship")
    assert encoded.tokens == ["[CLS]", "ship", "[SEP]"]
    assert encoded.type_ids == [0, 0, 0]


def test_two_texts_are_told_apart(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode("ship", "the barn")
    assert encoded.tokens == ["[CLS]", "ship", "[SEP]", "the", "barn", "[SEP]"]
    assert encoded.type_ids == [0, 0, 0, 1, 1, 1]


def test_what_was_saved_is_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_vocabulary(tokenizer, tmp_path / "tokenizer.json")
    assert read_vocabulary(tmp_path / "tokenizer.json").to_str() == tokenizer.to_str()
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"t\.json: no such file"):
        read_vocabulary(tmp_path / "t.json")


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(DataDamaged, match=r"t\.json is not a tokenizer"):
        read_vocabulary(tmp_path / "t.json")


def test_a_vocabulary_that_begins_otherwise(tmp_path: Path) -> None:
    words = {"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "ship": 5}
    Tokenizer(models.WordPiece(words, unk_token="[UNK]")).save(str(tmp_path / "t.json"))
    with pytest.raises(DataDamaged, match=r"does not begin with \[PAD\], \[UNK\]"):
        read_vocabulary(tmp_path / "t.json")
