"""Scores: the log-probability of each token with it masked, by transformers one copy at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from models import Pipeline
from models.derived import score as score_module
from models.errors import EmptyInput, InputTooLong, TaskUnsupported
from tests.helpers.checkpoints import EACH_FAMILY
from tests.helpers.fixtures import Export
from tests.helpers.oracle import Exported, write_texts


@pytest.fixture(params=EACH_FAMILY)
def model(request: pytest.FixtureRequest, exported: Export) -> Exported:
    return exported(request.param, "ForMaskedLM")


def score(original: Any, text: str) -> list[tuple[int, int, float]]:
    """As Salazar et al. define it: mask one, look at it, add up."""
    inputs = original.tokens(text)
    encoding = inputs.encodings[0]
    found = []
    for place, of in enumerate(encoding.sequence_ids):
        if of is None:
            continue
        ids = inputs["input_ids"].clone()
        token = int(ids[0, place])
        ids[0, place] = original.tokenizer.mask_token_id
        with torch.inference_mode():
            logits = original.model(**{**inputs, "input_ids": ids}).logits[0, place].double()
        start, end = encoding.offsets[place]
        found.append((start, end, float(logits.log_softmax(-1)[token])))
    return found


def test_equal_to_masking_one_after_another(
    model: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Logits are looked at in blocks of a few rows.
    monkeypatch.setattr(score_module, "_BLOCK", 3 * model.pipeline.manifest.vocabulary_size)
    texts = ["a", "The King 😀 of  France,", *write_texts(5, longest=20, seed=3)]
    for text, found in zip(texts, model.pipeline.score(texts), strict=True):
        wanted = score(model.original, text)
        assert [(token.start, token.end) for token in found.tokens] == [each[:2] for each in wanted]
        scores = [each[2] for each in wanted]
        np.testing.assert_allclose([token.score for token in found.tokens], scores, atol=2e-5)
        assert found.score == pytest.approx(sum(scores), abs=1e-4)
        assert found.perplexity == pytest.approx(math.exp(-np.mean(scores)), rel=1e-4)
        assert [token.text for token in found.tokens] == [
            text[token.start : token.end] for token in found.tokens
        ]


def test_what_cannot_be_scored(
    exported: Export, classifier_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = exported("bert", "ForMaskedLM").pipeline
    with pytest.raises(EmptyInput, match=r"inputs\[1\]"):
        pipeline.score(["rain", " "])
    with pytest.raises(InputTooLong):
        pipeline.score(["rain " * 100])
    (cut,) = pipeline.score(["rain " * 100], overflow="truncate")
    assert len(cut.tokens) == pipeline.encoder.room
    monkeypatch.setattr(score_module, "_MOST_TOKENS", 8)
    with pytest.raises(InputTooLong, match="a copy for each"):
        pipeline.score(["the king of france"])
    with pytest.raises(TaskUnsupported, match="which wants a fill-mask head"):
        classifier_pipeline.score(["rain"])
