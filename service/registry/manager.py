"""The life of the models: loads and changes their set, and says whether they answer and why not.

Knows nothing of what they are asked.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from models.errors import OperatorError
from service.errors import BundleRefused, ChangeUnderWay, NotReady
from service.observability.metrics import LaneState, Metrics, ModelState
from service.registry.inventory import InventoryEntry
from service.registry.memory import release_memory
from service.registry.registry import Registry
from service.scheduling.ticket import Lane
from service.settings import Settings

# Each keeps a core busy, perhaps, and its graphs in memory.
_MOST_STUCK = 3

_log = structlog.get_logger(__name__)


class ModelManager:
    """Loads and changes the models, and says whether they answer. One for each application."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.registry = Registry(settings, metrics)
        self.draining = False
        self.started = int(time.time())
        self._reading = threading.Lock()
        metrics.watch(self._tell_models, self._is_ready)

    def load(self) -> None:
        """Load every bundle; blocks. Raises an OperatorError that says what to mend."""
        with self._reading:
            self.registry.load()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded, and not let go of again."""
        return not self.registry.unready

    def reload(self) -> None:
        """Read the set of bundles again while serving; blocks. What fails is logged."""
        with self._reading:
            if self.draining or not self.ready:
                return
            try:
                self.registry.reload()
            except Exception:
                _log.exception("the bundles could not be read again")
            release_memory()

    def add_bundle(self, path: str, precision: str | None) -> InventoryEntry:
        """Load the bundle there, in place of a model of its name; blocks until that has gone.

        Raises PathRefused, BundleRefused with the reason, ChangeUnderWay, or NotReady.
        """
        refused: BundleRefused | None = None
        with self._change():
            try:
                return self.registry.add(path, precision)
            except OperatorError as error:
                _log.warning("bundle refused", reason=str(error))
                refused = BundleRefused(str(error), param="path", code=error.code)
        # Outside, where nothing refers any more to what was loaded of it.
        raise refused

    def remove_bundle(self, name: str) -> InventoryEntry:
        """Let a model answer no more; blocks until it has gone.

        Raises ModelNotFound, LastModel, ChangeUnderWay, or NotReady.
        """
        with self._change():
            return self.registry.remove(name)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Change the set of models, and give back what that leaves behind."""
        self.check_loaded()
        if not self._reading.acquire(blocking=False):
            raise ChangeUnderWay(
                "the set of models is being changed already; ask again when that is over "
                "(GET /admin/bundles shows it)"
            )
        try:
            yield
            release_memory()
        finally:
            self._reading.release()

    def drain(self) -> None:
        """Be ready for nothing new from now on, while what is under way is finished.

        Sets one flag: may be called from a signal's handler.
        """
        self.draining = True

    def close(self) -> None:
        """Take nothing more, finish what is queued, and let go of the threads."""
        self.registry.close()

    def check_ready(self) -> None:
        """Raise NotReady, with the reason, unless new requests would be answered by any model."""
        if self.draining:
            raise NotReady("the service is shutting down; ask another replica")
        self.check_loaded()
        if not self.registry.alive:
            raise NotReady(self.registry.reason or "a model's thread has ended")

    def check_live(self) -> None:
        """Raise NotReady where only a new process can help."""
        stuck = self.registry.count_stuck()
        if stuck >= _MOST_STUCK:
            raise NotReady(f"{stuck} computations stand still and cannot be ended")

    def check_loaded(self) -> None:
        """Raise NotReady, with the reason, before the models are loaded and at the end."""
        if self.registry.unready:
            raise NotReady(self.registry.unready)

    def _is_ready(self) -> bool:
        return self.ready and not self.draining and self.registry.alive

    def _tell_models(self) -> Iterator[ModelState]:
        for model in self.registry:
            yield ModelState(
                name=model.name,
                family=model.pipeline.manifest.family,
                precision=model.pipeline.precision,
                engine=model.pipeline.choice.engine,
                fingerprint=model.fingerprint,
                lanes=tuple(
                    LaneState(lane, model.batcher.queued_ms(lane), model.batcher.limit_ms(lane))
                    for lane in Lane
                ),
                queued_texts=model.batcher.queued_texts,
            )
