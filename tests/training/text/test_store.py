"""The store holds the corpus's tokens in order, and is made again only when it must be."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.training.data import write_documents
from training.errors import DataDamaged, DataMissing, DataTooSmall
from training.text.store import MAX_SENTENCE_TOKENS, open_store, prepare_store, tokenize_documents

DOCUMENTS = [["The ship sank. The sailor swam.", "A wave came."], ["", " "], ["A cow. A barn."]]


def test_offsets_cut_the_tokens_into_sentences_and_documents(tokenizer: Tokenizer) -> None:
    store = tokenize_documents(DOCUMENTS, tokenizer)
    spans = zip(store.sentences, store.sentences[1:], strict=False)
    sentences = [tokenizer.decode(store.tokens[begin:end].tolist()) for begin, end in spans]
    wanted = ["the ship sank.", "the sailor swam.", "a wave came.", "a cow.", "a barn."]
    assert [sentence.replace(" .", ".") for sentence in sentences] == wanted
    assert store.documents.tolist() == [0, 3, 5]
    assert store.tokens.dtype == np.uint16


def test_many_documents_keep_their_order(tokenizer: Tokenizer) -> None:
    words = ("ship", "cow", "violin", "judge")
    documents = [[f"The {words[number % 4]}."] for number in range(450)]
    store = tokenize_documents(documents, tokenizer)
    assert len(store.documents) == 451
    second = [tokenizer.id_to_token(token) for token in store.tokens[1::3].tolist()]
    assert second == [words[number % 4] for number in range(450)]


def test_a_long_sentence_goes_on_as_another(tokenizer: Tokenizer) -> None:
    count = 2 * MAX_SENTENCE_TOKENS + 5
    store = tokenize_documents([["ship " * count]], tokenizer)
    assert np.diff(store.sentences).tolist() == [MAX_SENTENCE_TOKENS, MAX_SENTENCE_TOKENS, 5]
    assert set(store.tokens.tolist()) == {tokenizer.token_to_id("ship")}
    assert store.documents.tolist() == [0, 3]


def test_nothing_at_all(tokenizer: Tokenizer) -> None:
    store = tokenize_documents([], tokenizer)
    assert (len(store.tokens), store.sentences.tolist(), store.documents.tolist()) == (0, [0], [0])


def test_the_same_files_are_not_tokenised_twice(tmp_path: Path, tokenizer: Tokenizer) -> None:
    files = (write_documents(tmp_path / "a.xz", DOCUMENTS),)
    told: list[tuple[int, int]] = []
    first = prepare_store(files, tokenizer, tmp_path / "store", lambda *at: told.append(at))
    assert told == [(0, 1), (1, 1)]
    again = prepare_store(files, tokenizer, tmp_path / "store", lambda *at: told.append(at))
    assert told == [(0, 1), (1, 1)]
    for name in ("tokens", "sentences", "documents"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert np.array_equal(first.tokens, tokenize_documents(DOCUMENTS, tokenizer).tokens)


def test_a_changed_file_is_tokenised_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    files = (write_documents(tmp_path / "a.xz", DOCUMENTS),)
    prepare_store(files, tokenizer, tmp_path / "store")
    write_documents(tmp_path / "a.xz", [*DOCUMENTS, ["An oven. Some soup."]])
    store = prepare_store(files, tokenizer, tmp_path / "store")
    assert len(store.documents) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xz", "store"]


def test_another_vocabulary_tokenises_again(tmp_path: Path, tokenizer: Tokenizer) -> None:
    files = (write_documents(tmp_path / "a.xz", DOCUMENTS),)
    prepare_store(files, tokenizer, tmp_path / "store")
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_tokens(["sailor swam"])
    store = prepare_store(files, other, tmp_path / "store")
    assert other.token_to_id("sailor swam") in store.tokens.tolist()


@pytest.mark.parametrize(
    "corpus", [[], [["One. Two."]], [["One."], ["Two."]], [["One. Two."], [" "]]]
)
def test_too_little_for_pairs(
    tmp_path: Path, tokenizer: Tokenizer, corpus: list[list[str]]
) -> None:
    files = (write_documents(tmp_path / "a.xz", corpus),)
    with pytest.raises(DataTooSmall, match=r"The corpus has \d document\(s\) with text"):
        prepare_store(files, tokenizer, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_that_failed_leaves_the_last_one(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write_documents(tmp_path / "a.xz", DOCUMENTS)
    prepare_store((path,), tokenizer, tmp_path / "store")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataDamaged):
        prepare_store((path,), tokenizer, tmp_path / "store")
    assert len(open_store(tmp_path / "store").documents) == 3


def test_a_folder_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="holds no tokenised corpus"):
        open_store(tmp_path)
