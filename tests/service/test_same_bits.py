"""The promise: the same text gets the same bits, whoever shares its batch, by the kernels."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.engines.library import Kernels, find_kernels
from tests.helpers.oracle import write_texts
from tests.helpers.server import Server, serve

FOUND = find_kernels()
pytestmark = pytest.mark.skipif(
    not isinstance(FOUND, Kernels), reason=str(getattr(FOUND, "reason", ""))
)
TEXTS = ["rain", "a b c", "the king of france", *write_texts(40, seed=5)]


def ask(server: Server, texts: list[str]) -> list[str]:
    """The bytes of each vector, in base64."""
    body = {"input": texts, "encoding_format": "base64", "overflow": "truncate"}
    return [each["embedding"] for each in server.answer("/v1/embeddings", body)["data"]]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_same_bits_alone_and_in_any_company(minilm_bundle: Path, precision: str) -> None:
    """Alone and in order; then by sixteen clients at once, in lists of any length and order."""
    with serve(minilm_bundle, precision=precision) as server:
        assert server.models[0].pipeline.choice.engine == "kernels"
        alone = {text: ask(server, [text])[0] for text in TEXTS}

        def mingle(seed: int) -> list[str]:
            chance = random.Random(seed)
            wrong = []
            for _ in range(3):
                some = chance.sample(TEXTS, chance.randint(1, 20))
                found = ask(server, some)
                wrong += [
                    text for text, bits in zip(some, found, strict=True) if bits != alone[text]
                ]
            return wrong

        with ThreadPoolExecutor(16) as clients:
            assert not [text for wrong in clients.map(mingle, range(16)) for text in wrong]
