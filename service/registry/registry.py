"""The bundles that are loaded, by name, and which of them answers a request.

The set is read once at the start, and again whenever the operator asks; single bundles are added,
replaced and removed over /admin. What is new is loaded beside what runs, takes over between two
requests, and what it replaced is let go of when the last request that uses it has its answer.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from models.asking import HeadName
from models.bundle.bundle import Bundle
from models.derived.table import explain_task
from models.errors import (
    BundleNotFound,
    ModelNotFound,
    OperatorError,
    TaskUnsupported,
)
from models.heads import REPRESENTATIONS, Head
from service.errors import LastModel, NotReady, Overloaded
from service.observability.metrics import Metrics
from service.registry.aliases import Aliases
from service.registry.bundle_paths import (
    find_roots,
    is_named,
    open_bundles,
    open_pipeline,
    resolve_path,
)
from service.registry.inventory import Attempts, InventoryEntry, describe_model
from service.registry.loaded_model import LoadedModel, check_prompt
from service.registry.watchdog import Watchdog
from service.scheduling.batcher import Batcher
from service.scheduling.graphs import GraphState
from service.scheduling.stuck_threads import StuckThreads
from service.scheduling.ticket import Lane
from service.settings import Settings

# A replaced model's last batch, which nobody waits for, may take so long before it is ended.
_LAST_BATCH_S = 5.0
_ENDED = "its thread has ended; load it again"
_SHUTTING_DOWN = "the service is shutting down"

_log = structlog.get_logger(__name__)


class Registry:
    """Every loaded model, in the order of the settings, then in that of being added."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.aliases = Aliases(dict(settings.aliases))
        # Why nothing is answered; empty while the models are there.
        self.unready = "the models are loading"
        self._models: Mapping[str, LoadedModel] = {}  # replaced whole, never changed
        self._retiring: tuple[LoadedModel, ...] = ()
        self._left: list[StuckThreads] = []  # of models that are gone
        self._attempts = Attempts()
        self._roots: tuple[Path, ...] = ()
        # The lock alone where nobody is told: a condition costs calls, and this is asked each time.
        self._counting = threading.RLock()
        self._released = threading.Condition(self._counting)
        self._closed = False
        self._watchdog: Watchdog | None = None

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(self._models.values())

    def load(self) -> None:
        """Open, check and warm every bundle of the settings. Raises an OperatorError."""
        try:
            self._load_all()
        except Exception as error:
            self.unready = str(error)
            raise
        with self._counting:
            if not self._closed:
                self.unready = ""

    def _load_all(self) -> None:
        def refuse(path: Path, error: Exception) -> None:
            self._attempts.fail(path, error)
            raise error

        self._roots = find_roots(self._settings)
        self._attempts.start(self._settings.precision, self._settings.bundles)
        bundles = open_bundles(self._settings, refuse)
        if not bundles:
            raise BundleNotFound(
                f"no bundle in {', '.join(map(str, self._settings.bundles))}; "
                "make one there with `python -m export SOURCE OUT`"
            )
        self.aliases.check(bundles, changing=bool(self._settings.admin_keys))
        self._attempts.clear()
        self._attempts.start(self._settings.precision, [bundle.path for bundle in bundles.values()])
        with self._loading() as models:
            for name, bundle in bundles.items():
                try:
                    models[name] = self._load(bundle, self._settings.precision)
                except Exception as error:
                    refuse(bundle.path, error)
            check_prompt(self._settings, models.values())
            self._replace(models)
        self._attempts.clear()
        self._watchdog = Watchdog(self._list_batchers)

    def _load(
        self,
        bundle: Bundle,
        precision: str | None,
        *,
        serving: bool = False,
        by_admin: bool = False,
    ) -> LoadedModel:
        settings = self._settings
        pipeline = open_pipeline(bundle, precision, settings, serving=serving)
        return LoadedModel(pipeline, settings, self._metrics, wanted=precision, by_admin=by_admin)

    def _list_batchers(self) -> Sequence[Batcher]:
        return [model.batcher for model in (*self, *self._retiring)]

    def reload(self) -> None:
        """Read the set again while serving; what cannot be loaded is logged, the rest goes on.

        A bundle whose files are the same stays as it is, and so does one that was added over
        /admin from elsewhere. One that cannot be opened any more keeps answering as it did.
        Blocks until what was replaced or removed has answered its last.
        """
        refused: list[Path] = []  # not the errors: they refer to what was loaded before them

        def refuse(path: Path, error: Exception) -> None:
            unexpected = not isinstance(error, OperatorError)
            _log.error("bundle refused", reason=str(error), exc_info=unexpected)
            self._attempts.fail(path, error)
            refused.append(path)

        self._attempts.clear()
        bundles = open_bundles(self._settings, refuse)
        with self._loading() as models:
            for name, bundle in bundles.items():
                try:
                    models[name] = self._renew(bundle)
                except Exception as error:
                    refuse(bundle.path, error)
            for name, model in self._models.items():
                if _is_from_elsewhere(model, self._settings):
                    models.setdefault(name, model)
            # Which bundle an error is about cannot always be told: nothing is taken away.
            kept = self._models if refused or not models else {}
            self._replace({**kept, **models})
        _log.info("bundles read again", models=list(self._models), refused=len(refused))

    @contextmanager
    def _loading(self) -> Iterator[dict[str, LoadedModel]]:
        """Models by name, for those that are loaded inside: what does not answer then is closed."""
        models: dict[str, LoadedModel] = {}
        try:
            yield models
        finally:
            answering = self._models
            for name, model in models.items():
                if answering.get(name) is not model:
                    model.batcher.close()

    def _renew(self, bundle: Bundle) -> LoadedModel:
        """The model of a bundle: the one that runs where its files are the same, else a new one."""
        running = self._models.get(bundle.manifest.name)
        if running is not None and (
            running.pipeline.bundle.fingerprint == bundle.fingerprint
            or _is_from_elsewhere(running, self._settings)
        ):
            return running
        wanted = running.wanted if running is not None else self._settings.precision
        with self._attempts.follow(bundle.path, wanted):
            return self._load(bundle, wanted, serving=True)

    def add(self, given: str, precision: str | None) -> InventoryEntry:
        """Load the bundle at a path, and let it answer in place of the one of its name.

        Blocks until that one has answered its last and its memory is free. Raises PathRefused,
        NotReady after `close`, or an OperatorError that says what is wrong with the bundle: then
        nothing has changed.
        """
        path = resolve_path(given, self._roots)
        wanted = precision or self._settings.precision
        with self._attempts.follow(path, wanted):
            model = self._load(Bundle.open(path), wanted, serving=True, by_admin=True)
        self._replace({**self._models, model.name: model})
        if self._closed:
            raise NotReady("the service is shutting down; ask another replica")
        return describe_model(model, "ready")

    def remove(self, name: str) -> InventoryEntry:
        """Let a model answer no more. Blocks until it has answered its last.

        Raises ModelNotFound, or LastModel: without it nothing would answer.
        """
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(
                f"no model is named {name!r}; loaded are {', '.join(self._models)}", param="model"
            )
        if len(self._models) == 1:
            raise LastModel(
                f"{name!r} is the only model, and the service would answer nothing without it; "
                "load another one first, or stop the service"
            )
        self._replace({other: each for other, each in self._models.items() if other != name})
        return describe_model(model, "removed")

    def _replace(self, models: Mapping[str, LoadedModel]) -> None:
        """Let these answer from now on, and let go of the others when their requests are over."""
        for model in self._swap(models):
            if model.name not in models:
                _log.info("bundle removed", model=model.name)
            self._retire(model)

    def _swap(self, models: Mapping[str, LoadedModel]) -> list[LoadedModel]:
        """Let these answer from now on; gives the others, which nobody finds any more."""
        with self._released:
            if self._closed:
                before, models = models, {}
            else:
                before, self._models = self._models, models
            gone = [model for name, model in before.items() if models.get(name) is not model]
            self._retiring += tuple(gone)
        for name, model in models.items():
            if before and before.get(name) is not model:
                event = "bundle replaced" if name in before else "bundle added"
                _log.info(event, model=name, path=str(model.pipeline.bundle.path))
        return gone

    def _retire(self, model: LoadedModel) -> None:
        # Whoever found it before it was taken out of the set is counted as a request.
        with self._released:
            self._released.wait_for(lambda: not model.requests)
        model.batcher.close(_LAST_BATCH_S)
        with self._released:
            self._left = [
                each for each in (*self._left, model.batcher.stuck_threads) if not each.over
            ]
            self._retiring = tuple(each for each in self._retiring if each is not model)

    def list(self) -> list[InventoryEntry]:
        """Every bundle and what becomes of it: those that answer first, in their order."""
        models, retiring = self._models.values(), self._retiring
        ready = [_describe(model) for model in models]
        return [*ready, *(describe_model(model, "retiring") for model in retiring), *self._attempts]

    def find(self, name: str | None, task: str, head: HeadName = None) -> LoadedModel:
        """The model of that name, or the first that has the task and answers it unasked.

        Where the head is another representation than dense vectors, the first that gives it.

        Raises ModelNotFound for a name that is not loaded, TaskUnsupported if no model has it.
        """
        if name is not None:
            return self.find_named(name)
        guessed = ""
        given = head if head in REPRESENTATIONS else None
        for model in self._models.values():
            if (task, given) in model.heads:
                if given or task not in model.guessed:
                    return model
                remedy = f'ask for it by name, "model": "{model.name}"'
                reason = model.guessed[task].format(remedy=remedy)
                guessed = guessed or f"{model.name!r} {reason}"
        if guessed:
            unsure = TaskUnsupported(guessed, param="model")
            unsure.by_name = True
            raise unsure
        raise TaskUnsupported(
            f"no loaded model gives {given} vectors; see /v1/models for what they answer"
            if given
            else f"no loaded model has a head for {task}{explain_task(task)}; see /v1/models for "
            "what they answer",
            param="model",
        )

    def find_named(self, name: str) -> LoadedModel:
        """The model of that name, or that it stands for. Raises ModelNotFound."""
        models = self._models
        return models[name if name in models else self.aliases.find(name, models)]

    def take_head(
        self, name: str | None, task: str, head: HeadName
    ) -> tuple[LoadedModel, Head[Any, Any, Any]]:
        """Model and head for a request, which stay open until the model is let go with `release`.

        Raises NotReady while nothing is answered, and the errors of `find` and Pipeline.find_head.
        """
        if self.unready:
            raise NotReady(self.unready)
        with self._counting:
            model = self.find(name, task, head)
            model.requests += 1
        found = None if isinstance(head, tuple) else model.heads.get((task, head))
        if found is not None:
            return model, found
        try:
            return model, model.pipeline.find_head(task, head)
        except BaseException:
            self.release(model)
            raise

    def take(self, name: str | None, what: str, fits: Callable[[LoadedModel], bool]) -> LoadedModel:
        """The model of that name, or the first that fits, for a request that asks for no head.

        It stays open until it is let go with `release`. Raises NotReady, ModelNotFound, or
        TaskUnsupported where none fits.
        """
        if self.unready:
            raise NotReady(self.unready)
        with self._counting:
            model = self.find_named(name) if name is not None else next(filter(fits, self), None)
            if model is None:
                raise TaskUnsupported(f"no loaded model answers {what}", param="model")
            model.requests += 1
        return model

    def release(self, model: LoadedModel) -> None:
        """A request that had taken the model is over."""
        with self._counting:
            model.requests -= 1
            if not model.requests:
                self._released.notify_all()

    def check_room(self, lane: Lane, deadline: float, caller: str = "") -> None:
        """Raise Overloaded where no model has room for the caller's request, whatever it asks."""
        full: Overloaded | None = None
        for model in self._models.values():
            try:
                model.batcher.check_room(lane, deadline, caller)
            except Overloaded as error:
                full = error
            else:
                return
        if full is not None:
            raise full

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

    def count_stuck(self) -> int:
        """Threads that stand still and cannot be ended, of models that are gone too."""
        with self._released:
            here = [model.batcher.stuck_threads for model in (*self, *self._retiring)]
            return sum(each.count() for each in (*here, *self._left))

    def close(self) -> None:
        """Let every queue run empty, and end its thread. What is loaded later never answers."""
        with self._counting:
            self.unready, self._closed = _SHUTTING_DOWN, True
        if self._watchdog is not None:
            self._watchdog.close()
        for model in self:
            model.batcher.close()


def _describe(model: LoadedModel) -> InventoryEntry:
    """A model that answers, or would if its graphs were whole."""
    batcher = model.batcher
    if batcher.alive:
        return describe_model(model, "ready")
    replacing = batcher.state is GraphState.REPLACING
    return describe_model(model, "loading" if replacing else "failed", batcher.reason or _ENDED)


def _is_from_elsewhere(model: LoadedModel, settings: Settings) -> bool:
    """Whether it was added over /admin from where the settings would not find it."""
    return model.by_admin and not is_named(model.pipeline.bundle.path, settings)
