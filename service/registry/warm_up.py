"""What a model computes before it answers: its golden answers, and a few batches that are timed."""

from collections.abc import Sequence

import numpy as np

from models.golden import check_golden
from models.pipeline import Pipeline
from models.text.encoded import Encoded
from service.scheduling.costs import Costs, measure_costs

_WARM_UP = "Some words to run every kernel once before the first request."


def warm_up(pipeline: Pipeline) -> None:
    """Compute the golden answers, so that no request pays for the first run of a kernel.

    Raises AnswersWrong where they come out otherwise than they should, and BundleDamaged where
    they cannot be computed: such a bundle must not serve here.
    """
    with pipeline.bundle.blamed():
        if check_golden(pipeline):
            return
        # A bundle of before, without answers to compare with.
        encoded = pipeline.encoder.encode(_WARM_UP, overflow="truncate")
        for texts in (1, 8):
            pipeline.run_trunk([encoded] * texts)


def measure(pipeline: Pipeline, max_batch_tokens: int) -> Costs:
    """What its batches cost on this machine."""
    manifest = pipeline.manifest

    def run(lengths: Sequence[int]) -> None:
        pipeline.run_trunk(
            [
                Encoded(
                    ids=np.arange(length, dtype=np.int64) % manifest.vocabulary_size,
                    type_ids=np.zeros(length, np.int64),
                )
                for length in lengths
            ]
        )

    return measure_costs(
        run,
        max_tokens=manifest.max_tokens,
        max_batch_tokens=max_batch_tokens,
        threads=pipeline.trunk.threads,
    )
