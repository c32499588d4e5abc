"""Token ids from outside: which of them the model's tokenizer could have made, and where to cut."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from models.errors import EmptyInput, ForeignTokens, InputTooLong, InvalidToken
from models.text.encoder import Encoder
from models.text.token_ids import Frame
from tests.helpers.checkpoints import FAMILIES
from tests.models.text.test_encoder import MAX_TOKENS, Both


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Both("bert", tmp_path_factory.mktemp("tokenizer")).ours


def test_what_the_tokenizer_gives_is_its_own(both: Both) -> None:
    for text in ("the king", "a", "fox " * 4, "\u2603"):
        ids = both.theirs(text)["input_ids"]
        bare = both.theirs(text, add_special_tokens=False)["input_ids"]
        given = both.ours.encode_ids(ids, overflow="error", special=True)
        added = both.ours.encode_ids(bare, overflow="error", special=False)
        assert given.ids.tolist() == added.ids.tolist() == ids
        assert given.type_ids.tolist() == [0] * len(ids)
        if len(bare) < len(ids):
            with pytest.raises(ForeignTokens, match="check_embedding_ctx_length=False"):
                both.ours.encode_ids(bare, overflow="error", special=True)


def test_what_is_cut_is_cut_as_a_text_is(both: Both) -> None:
    text = "the king of france and a fox " * 8
    ids = both.theirs(text)["input_ids"]
    bare = both.theirs(text, add_special_tokens=False)["input_ids"]
    for side in ("right", "left"):
        wanted = both.ours.encode(text, overflow="truncate", side=side).ids.tolist()  # type: ignore[arg-type]
        assert len(wanted) == MAX_TOKENS
        for special, some in ((True, ids), (False, bare)):
            found = both.ours.encode_ids(some, overflow="truncate", side=side, special=special)  # type: ignore[arg-type]
            assert found.ids.tolist() == wanted
            at = found.truncated_at
            assert isinstance(at, int)
            inner = set(wanted[1:-1])
            assert set(some[:at] if side == "right" else some[at:]) >= inner
            with pytest.raises(InputTooLong, match=f"{len(ids)} tokens"):
                both.ours.encode_ids(some, overflow="error", special=special)


def test_a_tokenizer_without_special_tokens_refuses_none(tmp_path: Path) -> None:
    words = {"the": 0, "king": 1, "?": 2}
    tokenizer = Tokenizer(WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = Encoder(tmp_path / "tokenizer.json", max_tokens=4, vocabulary_size=3, segments=False)
    for special in (True, False, None):
        assert encoder.encode_ids([1], overflow="error", special=special).ids.tolist() == [1]
        cut = encoder.encode_ids([0, 1, 2, 0, 1], overflow="truncate", special=special)
        assert (cut.ids.tolist(), cut.truncated_at) == ([0, 1, 2, 0], 4)


@pytest.mark.parametrize("place", [0, 1])
def test_special_tokens_at_one_end_alone(place: int, bert: Encoder) -> None:
    sep = bert.tokenizer.token_to_id("[SEP]")
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    special = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    content = json.loads(bert.tokenizer.to_str())
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, special] if place else [special, first],
        "pair": [first, second],
        "special_tokens": {"[SEP]": {"id": "[SEP]", "ids": [sep], "tokens": ["[SEP]"]}},
    }
    frame = Frame.of(Tokenizer.from_str(json.dumps(content)))
    assert frame.named == f"{('begins', 'ends')[place]} with [SEP] ({sep})"
    right, wrong = ([7, sep], [sep, 7]) if place else ([sep, 7], [7, sep])
    assert frame.holds(right)
    assert not frame.holds(wrong)


def test_the_first_that_is_wrong_is_told(bert: Encoder) -> None:
    for special in (True, False):
        with pytest.raises(EmptyInput):
            bert.encode_ids([], overflow="error", special=special)
    begin, *_, end = bert.tokenizer.encode("a").ids
    with pytest.raises(ForeignTokens):
        bert.encode_ids([10**6], overflow="error", special=True)
    with pytest.raises(InvalidToken, match="token id 1000000 at place 1 "):
        bert.encode_ids([begin, 10**6, end], overflow="error", special=True)
    with pytest.raises(InvalidToken, match="token id 1000000 at place 0 "):
        bert.encode_ids([10**6], overflow="error", special=False)
    # One token cannot be both ends.
    with pytest.raises(ForeignTokens):
        bert.encode_ids([begin], overflow="error", special=True)
