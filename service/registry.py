"""The bundles that are loaded, by name, and which of them answers a request."""

from collections.abc import Iterator
from typing import Any

from models.bundle import Bundle
from models.errors import ModelNotFound, SettingsError, TaskUnsupported
from models.heads import Head
from models.pipeline import Pipeline
from service.batcher import Batcher
from service.metrics import Metrics
from service.settings import Settings

_WARM_UP = "Some words to run every kernel once before the first request."


class Model:
    """A loaded bundle with its queue: one trunk, one session, one batcher."""

    def __init__(self, pipeline: Pipeline, settings: Settings, metrics: Metrics) -> None:
        self.pipeline = pipeline
        self.name = pipeline.manifest.name
        self.fingerprint = pipeline.bundle.fingerprint
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


class Registry:
    """Every loaded model, in the order of the settings."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def load(self, settings: Settings, metrics: Metrics) -> None:
        """Open, check and warm every bundle of the settings. Raises an OperatorError."""
        bundles: dict[str, Bundle] = {}
        for path in settings.bundles:
            bundle = Bundle.open(path)
            if bundle.manifest.name in bundles:
                other = bundles[bundle.manifest.name].path
                if other.resolve() == path.resolve():
                    raise SettingsError(f"{path} is given twice; name it once")
                raise SettingsError(
                    f"{other} and {path} are both named {bundle.manifest.name!r}; "
                    "export one of them again with --name"
                )
            bundles[bundle.manifest.name] = bundle
        for name, bundle in bundles.items():
            pipeline = Pipeline(bundle, precision=settings.precision, threads=settings.threads)
            warm_up(pipeline)
            self._models[name] = Model(pipeline, settings, metrics)

    def find(self, name: str | None, task: str) -> Model:
        """The model of that name, or the first that has the task.

        Raises ModelNotFound for a name that is not loaded, TaskUnsupported if no model has it.
        """
        if name is not None:
            if name not in self._models:
                raise ModelNotFound(
                    f"no model is named {name!r}; loaded are {', '.join(self._models)}",
                    param="model",
                )
            return self._models[name]
        for model in self:
            if model.answers(task):
                return model
        raise TaskUnsupported(
            f"no loaded model has a head for {task}; see /v1/models for what they answer",
            param="model",
        )

    def find_head(
        self, name: str | None, task: str, head: str | None
    ) -> tuple[Model, Head[Any, Any, Any]]:
        """Model and head for a request; the errors of `find` and of Pipeline.find_head."""
        model = self.find(name, task)
        return model, model.pipeline.find_head(task, head)

    @property
    def alive(self) -> bool:
        """Whether every model would answer."""
        return bool(self._models) and all(model.batcher.alive for model in self)

    def close(self) -> None:
        """Let every queue run empty, and end its thread."""
        for model in self:
            model.batcher.close()


def warm_up(pipeline: Pipeline) -> None:
    """Run the trunk once on one text and once on several, so that no request pays for it."""
    encoded = pipeline.encoder.encode(_WARM_UP, overflow="truncate")
    for texts in (1, 8):
        pipeline.run_trunk([encoded] * texts)
