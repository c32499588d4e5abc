"""Every task is asked about as many items as its row says, of the kinds it can answer."""

import pytest

from export.proof.cases import CASES, Case
from export.proof.texts import ProofTexts
from tests.helpers.checkpoints import make_tokenizer

EACH = pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.task)


@EACH
def test_a_case_draws_what_its_row_says(case: Case) -> None:
    tokenizer = make_tokenizer("bert")
    drawn = case.draw(ProofTexts(tokenizer, 64))
    assert len(drawn) == case.items >= 64
    assert sum(isinstance(item, tuple) for item in drawn) == case.pairs
    masked = [item for item in drawn if tokenizer.mask_token in item]
    assert len(masked) == case.masked
    assert case.options.overflow == "truncate"


@EACH
def test_lines_stand_in_for_the_texts(case: Case) -> None:
    drawn = case.draw(ProofTexts(make_tokenizer("bert"), 64, ["one", "two", "three"]))
    wanted = 3 * bool(case.singles) + 2 * bool(case.pairs) + 3 * bool(case.masked)
    assert len(drawn) == wanted
