"""A loaded bundle with its queue: one trunk, one session, one batcher."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from models.golden import check_golden
from models.heads import Job
from models.pipeline import Pipeline
from models.text.encoded import Encoded
from models.text.packing import Extent
from service.observability.metrics import Metrics
from service.scheduling.admission import Bounds
from service.scheduling.batcher import Batcher
from service.scheduling.costs import Costs, measure_costs
from service.scheduling.queue import Limits
from service.settings import Settings

_WARM_UP = "Some words to run every kernel once before the first request."


class Model:
    """A pipeline that was proven here, its costs measured, and its batcher at work.

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
        """Computes the golden answers first; raises AnswersWrong or BundleDamaged."""
        warm_up(pipeline)
        self.pipeline = pipeline
        self.name = pipeline.manifest.name
        self.fingerprint = pipeline.bundle.fingerprint
        self.wanted = wanted
        self.by_admin = by_admin
        self.loaded_at = time.time()
        self.requests = 0  # that use it now; the registry counts them
        with pipeline.bundle.blamed():
            self.costs = _measure(pipeline, settings.max_batch_tokens)
        self.batcher = Batcher(
            Graphed(pipeline),
            name=self.name,
            costs=self.costs,
            limits=Limits(
                max_batch_tokens=settings.max_batch_tokens,
                max_batch_s=settings.max_batch_ms / 1e3,
                overtaking=settings.overtaking,
            ),
            bounds=Bounds(settings.max_queue_ms / 1e3, settings.max_bulk_queue_ms / 1e3),
            stall_s=settings.stall_s,
            observe=metrics.batch_observer(self.name),
            on_replace=metrics.replacement_observer(self.name),
        )

    def answers(self, task: str) -> bool:
        """Whether it has a head for the task."""
        return any(head.task.name == task for head in self.pipeline.heads)


class Graphed:
    """A pipeline as a batcher computes with it: graphs that are loaded anew are proven again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.probe: Callable[[], None] = pipeline.probe
        self.stop: Callable[[], None] = pipeline.stop

    def compute(self, jobs: Sequence[Job]) -> Extent:
        """Set the output of each job."""
        return self.pipeline.compute(jobs)

    def reopen(self) -> None:
        """Load the graphs anew. Raises an OperatorError where they answer otherwise."""
        self.pipeline.reopen()
        warm_up(self.pipeline)


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


def _measure(pipeline: Pipeline, max_batch_tokens: int) -> Costs:
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

    return measure_costs(run, max_tokens=manifest.max_tokens, max_batch_tokens=max_batch_tokens)
