"""Azure's client of OpenAI, unchanged: the deployment in the path, its key in its own header."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest

from models import Pipeline
from tests.helpers.server import Server, serve

KEY = "right"


@pytest.fixture(scope="module")
def closed(pretraining_bundle: Path, minilm_bundle: Path) -> Iterator[Server]:
    with serve(pretraining_bundle, minilm_bundle, api_keys=KEY) as server:
        yield server


def ask(server: Server, key: str) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        azure_endpoint=str(server.client.base_url).rstrip("/"),
        api_key=key,
        api_version="2024-10-21",
        max_retries=0,
    )


def test_the_deployment_is_the_model(closed: Server, minilm_bundle: Path) -> None:
    pipeline = Pipeline.open(minilm_bundle)
    with ask(closed, KEY) as client:
        answer = client.embeddings.create(input=["rain"], model="all-MiniLM-L6-v2")
        assert answer.model == "all-MiniLM-L6-v2"
        np.testing.assert_allclose(answer.data[0].embedding, pipeline.embed(["rain"])[0], atol=1e-5)
        with pytest.raises(openai.NotFoundError, match="no model is named 'nobody'"):
            client.embeddings.create(input=["rain"], model="nobody")
        with pytest.raises(openai.BadRequestError, match="empty"):
            client.embeddings.create(input=[""], model="all-MiniLM-L6-v2")


def test_its_key_is_asked_for(closed: Server) -> None:
    with ask(closed, "wrong") as client, pytest.raises(openai.AuthenticationError):
        client.embeddings.create(input=["rain"], model="all-MiniLM-L6-v2")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"api-key": KEY}, 200),
        ({"x-api-key": KEY}, 200),
        ({"api-key": "wrong"}, 401),
        # The one that says most decides.
        ({"authorization": "Bearer wrong", "x-api-key": KEY}, 401),
        ({"authorization": f"Bearer {KEY}", "x-api-key": "wrong"}, 200),
        ({"x-api-key": ""}, 401),
        ({}, 401),
    ],
)
def test_a_key_in_whichever_header(closed: Server, headers: dict[str, str], status: int) -> None:
    body = {"input": "rain"}
    response = closed.client.post("/v1/embeddings", json=body, headers=headers)
    assert response.status_code == status
    assert "wrong" not in response.text
