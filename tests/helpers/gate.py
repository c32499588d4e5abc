"""Golden answers that stand still, in a thread of the service, for as long as a test wants."""

import threading

import pytest

from models.pipeline import Pipeline
from service.registry.warm_up import warm_up
from tests.helpers.server import PATIENCE_S


class Gate:
    """Holds every warm-up, or those of the models of one name, until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str | None = None) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

        def warm_up_later(pipeline: Pipeline) -> None:
            if name in (None, pipeline.manifest.name):
                self.entered.set()
                assert self.opened.wait(PATIENCE_S)
            warm_up(pipeline)

        patch.setattr("service.registry.loaded_model.warm_up", warm_up_later)
