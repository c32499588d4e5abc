"""Servers that many tests share, each started once in a run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import Pipeline
from service.settings import PREFIX
from tests.helpers.server import Server, serve


@pytest.fixture(scope="session", autouse=True)
def _own_settings() -> Iterator[None]:
    """No test reads the settings of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.upper().startswith(PREFIX):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def minilm(minilm_bundle: Path) -> Iterator[Server]:
    """Serves all-MiniLM-L6-v2."""
    with serve(minilm_bundle) as server:
        yield server


@pytest.fixture(scope="session")
def tiny(
    pretraining_bundle: Path, classify_bundle: Path, heads_bundle: Path, reader_bundle: Path
) -> Iterator[Server]:
    """Serves four tiny models, which answer every task between them."""
    with serve(pretraining_bundle, classify_bundle, heads_bundle, reader_bundle) as server:
        yield server


@pytest.fixture(scope="session")
def ranking(
    pretraining_bundle: Path, inference_bundle: Path, ranker_bundle: Path
) -> Iterator[Server]:
    """Serves a model that embeds, one that knows what follows from what, and a cross-encoder."""
    with serve(pretraining_bundle, inference_bundle, ranker_bundle) as server:
        yield server


@pytest.fixture(scope="session")
def cutting(pretraining_bundle: Path, classify_bundle: Path) -> Iterator[Server]:
    """Serves two tiny models, and truncates what is too long unless it is told not to."""
    with serve(pretraining_bundle, classify_bundle, overflow="truncate") as server:
        yield server


@pytest.fixture(scope="session")
def narrow(pretraining_bundle: Path, classify_bundle: Path) -> Iterator[Server]:
    """Serves two tiny models, but takes 2 items and 2,000 bytes at most."""
    with serve(pretraining_bundle, classify_bundle, max_inputs=2, max_body_bytes=2_000) as server:
        yield server


@pytest.fixture(scope="session")
def minilm_pipeline(minilm_bundle: Path) -> Pipeline:
    """all-MiniLM-L6-v2 in this process."""
    return Pipeline.open(minilm_bundle)


@pytest.fixture(scope="session")
def pretraining(pretraining_bundle: Path) -> Pipeline:
    """The tiny pre-trained model in this process."""
    return Pipeline.open(pretraining_bundle)


@pytest.fixture(scope="session")
def classifier(classify_bundle: Path) -> Pipeline:
    """The tiny classifier in this process."""
    return Pipeline.open(classify_bundle)


@pytest.fixture(scope="session")
def reader(reader_bundle: Path) -> Pipeline:
    """The tiny reader in this process."""
    return Pipeline.open(reader_bundle)


@pytest.fixture(scope="session")
def two_heads(heads_bundle: Path) -> Pipeline:
    """The tiny model with two classify heads in this process."""
    return Pipeline.open(heads_bundle)
