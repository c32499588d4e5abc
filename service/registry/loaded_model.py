"""A loaded bundle with its queue: one trunk, one session, one batcher."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from models.derived.rerank import RerankHead, is_unsure
from models.engines import ENGINE
from models.engines.limit import ends_within
from models.errors import SettingsError
from models.heads import Head, Job
from models.pipeline import Pipeline
from models.text.packing import Extent
from service.observability.metrics import Metrics
from service.registry.warm_up import measure, warm_up
from service.scheduling.admission import Bounds
from service.scheduling.batcher import Batcher
from service.scheduling.queue import Limits
from service.settings import Settings


class LoadedModel:
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
        self.max_batch_tokens = settings.limit_batch(pipeline.choice.batch_tokens)
        with ends_within(settings.load_timeout_s, pipeline.stop, pipeline.bundle.path):
            warm_up(pipeline)
            with pipeline.bundle.blamed():
                self.costs = measure(pipeline, self.max_batch_tokens)
        self.pipeline = pipeline
        self.name = pipeline.manifest.name
        # Replicas that tell the same give the same answers; that of fp32 is the bundle's own.
        choice, precision = pipeline.choice, pipeline.precision
        plain = precision == "fp32" and choice.engine == ENGINE
        own = pipeline.bundle.fingerprint
        self.fingerprint = own if plain else f"{own}-{precision}-{choice.engine}"
        # As a setting has it, where the bundle says another.
        changed = {
            head.entry.default_prompt
            for head, entry in zip(pipeline.heads, pipeline.manifest.heads, strict=False)
            if head.entry.default_prompt != entry.default_prompt
        }
        self.fingerprint += "".join(f"-{prompt}" for prompt in sorted(filter(None, changed)))
        self.wanted = wanted
        self.by_admin = by_admin
        self.loaded_at = time.time()
        self.requests = 0  # that use it now; the registry counts them
        # Its heads by task and name; without a name, the task's first.
        heads = (*pipeline.heads, *pipeline.derived)
        self.heads = {(head.task.name, head.entry.name): head for head in heads}
        for head in reversed(heads):
            if head.entry.representation is None:
                self.heads[head.task.name, None] = head
        # Tasks that it answers by name alone, since what it says there is a guess, and why.
        self.guessed = {
            name: reason
            for (name, head_name), head in self.heads.items()
            if head_name is None and (reason := _explain_guess(head))
        }
        self.batcher = Batcher(
            Graphed(pipeline),
            name=self.name,
            costs=self.costs,
            limits=Limits(
                max_batch_tokens=self.max_batch_tokens,
                max_batch_s=settings.max_batch_ms / 1e3,
                overtaking=settings.overtaking,
            ),
            bounds=Bounds(settings.max_queue_ms / 1e3, settings.max_bulk_queue_ms / 1e3),
            stall_s=settings.stall_s,
            observe=metrics.batch_observer(self.name),
            on_replace=metrics.replacement_observer(self.name),
        )


class Graphed:
    """A pipeline as a batcher computes with it: graphs that are loaded anew are proven again."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.compute: Callable[[Sequence[Job]], Extent] = pipeline.compute
        self.probe: Callable[[], None] = pipeline.probe
        self.stop: Callable[[], None] = pipeline.stop

    def reopen(self) -> None:
        """Load the graphs anew. Raises an OperatorError where they answer otherwise."""
        self.pipeline.reopen()
        warm_up(self.pipeline)


def _explain_guess(head: Head[Any, Any, Any]) -> str:
    """Why its answers are guessed, and how they are not; empty where they are no guess."""
    if head.entry.pooling_source == "default":
        return (
            "pools its vectors by a default that its checkpoint does not say; {remedy}, or export "
            "it with --pooling"
        )
    if head.task.name == RerankHead.task.name and is_unsure(head.entry):
        label = (head.entry.labels or ("",))[0]
        return f"has one label, {label!r}, and may be no cross-encoder; {{remedy}}"
    return ""


def check_prompt(settings: Settings, models: Iterable[LoadedModel]) -> None:
    """Raise SettingsError for a default prompt that none of the models has.

    Of a set that /admin changes one may come that does.
    """
    wanted = settings.default_prompt
    heads = [head for model in models for head in model.pipeline.heads]
    if wanted and not settings.admin_keys:
        known = {prompt for head in heads for prompt in head.entry.prompts or {}}
        if wanted not in known:
            told = f"there are {', '.join(sorted(known))}" if known else "they have none"
            raise SettingsError(
                f"CLOZE_DEFAULT_PROMPT is {wanted!r}, and no model here has a prompt of that name; "
                f"{told}"
            )
