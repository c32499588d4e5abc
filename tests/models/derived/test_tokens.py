"""Tokens and their places, as transformers' own tokenizers have them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InvalidToken, InvalidValue
from tests.helpers.checkpoints import EACH_FAMILY
from tests.helpers.fixtures import Export
from tests.helpers.oracle import ODD_WORDS, Exported


@pytest.fixture(params=EACH_FAMILY)
def model(request: pytest.FixtureRequest, exported: Export) -> Exported:
    return exported(request.param, "ForMaskedLM")


def test_equal_to_transformers(model: Exported) -> None:
    tokenizer = model.original.tokenizer

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.sampled_from([*ODD_WORDS, "the king", "[MASK]", " ", ""])).map(" ".join))
    def check(text: str) -> None:
        encoding = tokenizer(text, verbose=False).encodings[0]
        (found,) = model.pipeline.tokenize([text])
        assert [token.id for token in found] == encoding.ids
        for token, of, place in zip(found, encoding.sequence_ids, encoding.offsets, strict=True):
            assert token.special == (of is None)
            assert (token.start, token.end) == ((None, None) if of is None else tuple(place))
            if of is not None:
                assert token.text == text[place[0] : place[1]]
        (plain,) = model.pipeline.tokenize([text], special=False)
        assert plain == [token for token in found if not token.special]
        for special in (False, True):
            (spelled,) = model.pipeline.detokenize([encoding.ids], special=special)
            assert spelled == tokenizer.backend_tokenizer.decode(
                encoding.ids, skip_special_tokens=not special
            )

    check()


def test_what_is_no_text_and_no_token(exported: Export) -> None:
    pipeline = exported("bert", "ForMaskedLM").pipeline
    with pytest.raises(InvalidValue, match="surrogate"):
        pipeline.tokenize(["\ud800"])
    size = pipeline.manifest.vocabulary_size
    with pytest.raises(InvalidToken, match=f"token id {size} at place 1"):
        pipeline.detokenize([[1, size]])
    assert pipeline.detokenize([[]]) == [""]
    # However long: nothing is cut.
    (many,) = pipeline.tokenize(["king " * 5000], special=False)
    assert len(many) == 5000
