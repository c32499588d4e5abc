"""Next-sentence: the probability that transformers gives, for every length of pair."""

import numpy as np
import pytest

from models.heads.head import softmax
from tests.helpers.fixtures import Export
from tests.helpers.oracle import write_pairs


@pytest.mark.parametrize("family", ["bert", pytest.param("mobilebert", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("ending", "output"),
    [("ForPreTraining", "seq_relationship_logits"), ("ForNextSentencePrediction", "logits")],
)
def test_equal_to_transformers(exported: Export, family: str, ending: str, output: str) -> None:
    model = exported(family, ending)
    pairs = [("a", "b"), *write_pairs(40, longest=50, seed=4)]
    found = model.pipeline.next_sentence(pairs, overflow="truncate")
    wanted = [float(softmax(model.original.logits(pair, output))[0]) for pair in pairs]
    np.testing.assert_allclose([answer.score for answer in found], wanted, atol=2e-5)
    assert [answer.is_next for answer in found] == [score >= 0.5 for score in wanted]
    assert len({answer.is_next for answer in found}) == 2


def test_order_of_the_two_texts_counts(exported: Export) -> None:
    pipeline = exported("bert", "ForPreTraining").pipeline
    there, back = pipeline.next_sentence([("the cold sea", "a king"), ("a king", "the cold sea")])
    assert abs(there.score - back.score) > 1e-3
