"""Whether an answer depends on who shares the batch, which it may not.

Owns the strangers that a text is packed with, and how far it may move among them.
"""

import numpy as np

from export.errors import ProofFailed
from export.proof.figures import pool
from export.proof.texts import SENTENCES
from models.errors import EmptyInput
from models.pipeline import Pipeline
from models.text.encoded import Encoded
from models.text.encoder import Encoder

# Between a text alone and the same text among strangers, whatever the precision.
COMPANY_COSINE = 0.999
_SEED = 20181011


def measure_company(pipeline: Pipeline) -> float:
    """The worst cosine between a text alone and the same text among strangers.

    The strangers are what a shared scale would suffer from: one token many times, rare tokens, a
    text as long as the model takes. Vectors are means of hidden states. Raises ProofFailed below
    COMPANY_COSINE: an answer may not depend on who shares the batch.
    """
    encoder = pipeline.encoder
    chance = np.random.default_rng(_SEED)
    most = min(encoder.max_tokens, 256)
    rare = chance.integers(encoder.vocabulary_size * 9 // 10, encoder.vocabulary_size, most)
    strangers = [
        encoder.encode_ids([int(rare[0])] * most, overflow="truncate"),
        encoder.encode_ids(rare.tolist(), overflow="truncate"),
        encoder.encode_ids(
            chance.integers(0, encoder.vocabulary_size, 2 * most).tolist(), overflow="truncate"
        ),
    ]
    worst = 1.0
    texts = [text for sentence in SENTENCES for text in _encode(encoder, sentence)]
    hidden, packed = pipeline.run_trunk([*strangers[:2], *texts, *strangers[2:]])
    for text, start in zip(texts, packed.starts[2:].tolist(), strict=False):
        alone, _ = pipeline.run_trunk([text])
        among = hidden.whole()[start : start + len(text.ids)]
        worst = min(worst, float(pool(alone.whole(), "mean") @ pool(among, "mean")))
    if not worst >= COMPANY_COSINE:
        raise ProofFailed(
            f"in {pipeline.precision} a text among others has a cosine of {worst:.4f} to itself "
            f"alone, below {COMPANY_COSINE:g}: answers would depend on who shares the batch"
        )
    return worst


def _encode(encoder: Encoder, sentence: str) -> list[Encoded]:
    """The sentence, or none where the tokenizer has no tokens for it."""
    try:
        return [encoder.encode(sentence, overflow="truncate")]
    except EmptyInput:
        return []
