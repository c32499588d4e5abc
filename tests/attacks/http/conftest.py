"""The servers to attack, and what has to hold after each attack."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.helpers.server import Server, check_same
from tests.service.conftest import _own_settings, tiny  # noqa: F401

KNOWN = {
    "/v1/embeddings": {"input": "the quick brown fox"},
    "/v1/fill-mask": {"inputs": "the [MASK] fox", "top_k": 3},
    "/v1/next-sentence": {"inputs": {"first": "the fox", "second": "the dog"}},
    "/v1/classify": {"inputs": "the lazy dog"},
}
Survive = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def survive(tiny: Server) -> Survive:  # noqa: F811
    """Holds that after the block every task answers as before, in the same threads."""
    wanted = {path: tiny.answer(path, body) for path, body in KNOWN.items()}
    threads = [model.batcher._thread for model in tiny.models]

    @contextmanager
    def watch() -> Iterator[None]:
        yield
        assert [model.batcher._thread for model in tiny.models] == threads
        assert all(thread.is_alive() for thread in threads)
        assert tiny.client.get("/health/ready").status_code == 200
        for path, body in KNOWN.items():
            check_same(tiny.answer(path, body), wanted[path])

    return watch


@pytest.fixture(autouse=True)
def _survives(survive: Survive) -> Iterator[None]:
    """Every attack here, also those that do not say so."""
    with survive():
        yield
