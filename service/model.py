"""A loaded bundle with its queue: one trunk, one session, one batcher."""

import time

from models.golden import check_golden
from models.pipeline import Pipeline
from service.batcher import Batcher
from service.metrics import Metrics
from service.settings import Settings

_WARM_UP = "Some words to run every kernel once before the first request."


class Model:
    """A pipeline that was proven here, and its batcher at work.

    `wanted` is the precision that was asked for, `by_admin` whether that was over /admin.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        settings: Settings,
        metrics: Metrics,
        *,
        wanted: str | None = None,
        by_admin: bool = False,
    ) -> None:
        """Computes the golden answers first; raises AnswersWrong, see `warm_up`."""
        warm_up(pipeline)
        self.pipeline = pipeline
        self.name = pipeline.manifest.name
        self.fingerprint = pipeline.bundle.fingerprint
        self.wanted = wanted
        self.by_admin = by_admin
        self.loaded_at = time.time()
        self.requests = 0  # that use it now; the registry counts them
        self.batcher = Batcher(
            pipeline.compute,
            name=self.name,
            max_batch_tokens=settings.max_batch_tokens,
            max_queue_tokens=settings.max_queue_tokens,
            observe=metrics.batch_observer(self.name),
        )

    def answers(self, task: str) -> bool:
        """Whether it has a head for the task."""
        return any(head.task.name == task for head in self.pipeline.heads)


def warm_up(pipeline: Pipeline) -> None:
    """Compute the golden answers, so that no request pays for the first run of a kernel.

    Raises AnswersWrong where they come out otherwise than they should: such a bundle must not
    serve here.
    """
    if check_golden(pipeline):
        return
    # A bundle of before, without answers to compare with.
    encoded = pipeline.encoder.encode(_WARM_UP, overflow="truncate")
    for texts in (1, 8):
        pipeline.run_trunk([encoded] * texts)
