"""The bundles that are loaded, by name, and which of them answers a request.

The set is read once at the start, and again whenever the operator asks: what is new or changed is
loaded beside what runs, takes over between two requests, and what it replaced is let go of when
the last request that uses it has its answer.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from models.bundle import Bundle, find_bundles
from models.errors import (
    BundleNotFound,
    ModelNotFound,
    OperatorError,
    SettingsError,
    TaskUnsupported,
)
from models.heads import Head
from models.pipeline import Pipeline
from service.memory import check_memory
from service.metrics import Metrics
from service.model import Model
from service.settings import Settings
from service.watchdog import Watchdog

# A replaced model's last batch may take so long before it is ended.
_LAST_BATCH_S = 5.0

_log = structlog.get_logger(__name__)


class Registry:
    """Every loaded model, in the order of the settings."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}  # replaced whole, never changed
        self._retiring: tuple[Model, ...] = ()
        self._released = threading.Condition()
        self._watchdog: Watchdog | None = None

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def load(self, settings: Settings, metrics: Metrics) -> None:
        """Open, check and warm every bundle of the settings. Raises an OperatorError."""

        def refuse(error: OperatorError) -> None:
            raise error

        bundles = _find_bundles(settings, refuse)
        if not bundles:
            raise BundleNotFound(
                f"no bundle in {', '.join(map(str, settings.bundles))}; "
                "make one there with `python -m export SOURCE OUT`"
            )
        self._models = {
            name: _load_model(bundle, settings, metrics) for name, bundle in bundles.items()
        }
        # What is replaced still has requests to answer, and can stand still as well.
        self._watchdog = Watchdog(lambda: [model.batcher for model in (*self, *self._retiring)])

    def reload(self, settings: Settings, metrics: Metrics) -> None:
        """Read the set again while serving; what cannot be loaded is logged, the rest goes on.

        A bundle whose files are the same stays as it is. One that cannot be opened any more keeps
        answering as it did. Blocks until what was replaced or removed has answered its last.
        """
        refused: list[OperatorError] = []
        bundles = _find_bundles(settings, refused.append)
        models = self._load_changed(bundles, refused, settings, metrics)
        for reason in refused:
            _log.error("bundle refused", reason=str(reason))
        if refused or not models:
            # Which bundle an error is about cannot always be told: nothing is taken away.
            models = self._models | models
        self._replace(models)
        _log.info("bundles read again", models=list(models), refused=len(refused))

    def _load_changed(
        self,
        bundles: dict[str, Bundle],
        refused: list[OperatorError],
        settings: Settings,
        metrics: Metrics,
    ) -> dict[str, Model]:
        """A model for each bundle: the one that runs where its files are the same, else a new."""
        models: dict[str, Model] = {}
        for name, bundle in bundles.items():
            running = self._models.get(name)
            if running is not None and running.fingerprint == bundle.fingerprint:
                models[name] = running
                continue
            try:
                models[name] = _load_model(bundle, settings, metrics, serving=True)
            except OperatorError as error:
                refused.append(error)
        return models

    def _replace(self, models: dict[str, Model]) -> None:
        """Let these answer from now on, and let go of the others when their requests are over."""
        before = self._models
        gone = [model for name, model in before.items() if models.get(name) is not model]
        self._retiring += tuple(gone)
        self._models = models
        for name, model in models.items():
            if before.get(name) is not model:
                event = "bundle replaced" if name in before else "bundle added"
                _log.info(event, model=name, path=str(model.pipeline.bundle.path))
        for model in gone:
            if model.name not in models:
                _log.info("bundle removed", model=model.name)
            self._retire(model)

    def find(self, name: str | None, task: str) -> Model:
        """The model of that name, or the first that has the task.

        Raises ModelNotFound for a name that is not loaded, TaskUnsupported if no model has it.
        """
        models = self._models
        if name is not None:
            if name not in models:
                raise ModelNotFound(
                    f"no model is named {name!r}; loaded are {', '.join(models)}",
                    param="model",
                )
            return models[name]
        for model in models.values():
            if model.answers(task):
                return model
        raise TaskUnsupported(
            f"no loaded model has a head for {task}; see /v1/models for what they answer",
            param="model",
        )

    @contextmanager
    def use_head(
        self, name: str | None, task: str, head: str | None
    ) -> Iterator[tuple[Model, Head[Any, Any, Any]]]:
        """Model and head for a request, which stay open until it is over.

        The errors of `find` and of Pipeline.find_head.
        """
        with self._released:
            model = self.find(name, task)
            model.requests += 1
        try:
            yield model, model.pipeline.find_head(task, head)
        finally:
            with self._released:
                model.requests -= 1
                if not model.requests:
                    self._released.notify_all()

    @property
    def alive(self) -> bool:
        """Whether every model would answer."""
        models = self._models
        return bool(models) and all(model.batcher.alive for model in models.values())

    @property
    def reason(self) -> str:
        """Why a model would not answer; empty while every one would."""
        models = self._models.values()
        return next((model.batcher.reason for model in models if not model.batcher.alive), "")

    def close(self) -> None:
        """Let every queue run empty, and end its thread."""
        if self._watchdog is not None:
            self._watchdog.close()
        for model in self:
            model.batcher.close()

    def _retire(self, model: Model) -> None:
        # Whoever found it before it was taken out of the set is counted as a request.
        with self._released:
            self._released.wait_for(lambda: not model.requests)
        # What is left are texts that nobody waits for.
        model.batcher.close(_LAST_BATCH_S)
        self._retiring = tuple(each for each in self._retiring if each is not model)


def _load_model(
    bundle: Bundle, settings: Settings, metrics: Metrics, *, serving: bool = False
) -> Model:
    check_memory(bundle, bundle.choose_precision(settings.precision), serving=serving)
    pipeline = Pipeline(bundle, precision=settings.precision, threads=settings.threads)
    return Model(pipeline, settings, metrics)


def _find_bundles(settings: Settings, refuse: Callable[[OperatorError], None]) -> dict[str, Bundle]:
    """The bundles of the settings, opened and checked, by name; `refuse` hears what is not."""
    bundles: dict[str, Bundle] = {}
    for given in settings.bundles:
        try:
            paths = find_bundles(given)
        except OperatorError as error:
            refuse(error)
            continue
        if not paths:
            _log.warning("no bundles yet", folder=str(given))
        for path in paths:
            try:
                _add_bundle(bundles, path, named=path == given)
            except OperatorError as error:
                refuse(error)
    return bundles


def _add_bundle(bundles: dict[str, Bundle], path: Path, *, named: bool) -> None:
    bundle = Bundle.open(path)
    other = bundles.setdefault(bundle.manifest.name, bundle)
    if other is bundle:
        return
    if other.path.resolve() == path.resolve():
        if named:
            raise SettingsError(f"{path} is given twice; name it once")
        return  # named itself, to come first, and in a folder of bundles
    raise SettingsError(
        f"{other.path} and {path} are both named {bundle.manifest.name!r}; "
        "export one of them again with --name"
    )
