"""GET /v2, /v2/health/live, /v2/health/ready, /v2/models/{model}; POST .../infer."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import APIRouter
from pydantic import Field

from models.errors import EmptyInput, InvalidValue
from models.heads import EmbedOptions
from service.answering.answerer import Question
from service.api.foreign import ForeignFields, answer_cut, choose_overflow
from service.api.kserve.dialect import KSERVE
from service.api.route import Answer, Ask, Asker, declare, json_response, write_numbers
from service.endpoint import Kind
from service.errors import NotReady
from service.registry.loaded_model import LoadedModel

router = APIRouter(route_class=declare(Kind.WORK, KSERVE), include_in_schema=False)
probes = APIRouter(route_class=declare(Kind.OPERATION, KSERVE, probe=True), include_in_schema=False)


@probes.get("/v2", response_model=None)
async def server(ask: Ask) -> bytes:
    """Tell what the server is."""
    return json_response({"name": "cloze", "version": ask.app.version, "extensions": []})


@probes.get("/v2/health/live", response_model=None)
async def live(ask: Ask) -> bytes:
    """Say that the process answers."""
    ask.state.manager.check_live()
    return json_response({"live": True})


@probes.get("/v2/health/ready", response_model=None)
async def ready(ask: Ask) -> bytes:
    """Say that every model answers."""
    ask.state.manager.check_ready()
    return json_response({"ready": True})


@router.get("/v2/models/{model:path}/ready", response_model=None)
async def model_ready(ask: Ask) -> bytes:
    """Say that a model answers."""
    model = _find(ask)
    if not model.batcher.alive:
        raise NotReady(model.batcher.reason or "the model does not answer")
    return json_response({"name": model.name, "ready": True})


class Tensor(ForeignFields):
    """A tensor of texts."""

    name: str = "text"
    datatype: str = "BYTES"
    shape: list[int] | None = Field(default=None, max_length=64)
    data: list[Any]


class InferRequest(ForeignFields):
    """One tensor of texts."""

    id: str | None = None
    inputs: list[Tensor] = Field(max_length=16, fail_fast=True)


@router.post("/v2/models/{model:path}/infer", response_model=None)
async def infer(body: InferRequest, ask: Ask) -> Answer:
    """Embed texts."""
    texts = _read_texts(body.inputs)
    options = EmbedOptions(overflow=choose_overflow(ask, truncate=None))
    reply = await ask.ask(
        Question("embed", texts, options, model=ask.path["model"], field="inputs[0].data")
    )
    vectors = np.stack(reply.answers)
    told: dict[str, Any] = {"model_name": reply.model} | ({"id": body.id} if body.id else {})
    output = {
        "name": "embedding",
        "datatype": "FP32",
        "shape": list(vectors.shape),
        "data": orjson.Fragment(await asyncio.to_thread(write_numbers, vectors.ravel())),
    }
    return answer_cut({**told, "outputs": [output]}, reply.truncated_at)


def _read_texts(tensors: Sequence[Tensor]) -> list[str]:
    if len(tensors) != 1 or tensors[0].datatype != "BYTES":
        raise InvalidValue("one tensor of BYTES is due here, the texts", param="inputs")
    (tensor,) = tensors
    texts: list[str] = np.array(tensor.data, dtype=object).ravel().tolist()
    if not texts:
        raise EmptyInput("the tensor is empty; send at least one text", param="inputs[0].data")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidValue("a text is due here", param=f"inputs[0].data[{place}]")
    if tensor.shape is not None and math.prod(tensor.shape) != len(texts):
        raise InvalidValue(
            f"{tensor.shape} is not the shape of {len(texts)} texts", param="inputs[0].shape"
        )
    return texts


@router.get("/v2/models/{model:path}", response_model=None)
async def model_metadata(ask: Ask) -> bytes:
    """Tell what a model takes and gives; of one that embeds nothing that it takes nothing."""
    model = _find(ask)
    head = model.heads.get(("embed", None))
    sizes = (head.entry.default_dimensions, head.entry.dimensions) if head is not None else ()
    size = next(filter(None, sizes), model.pipeline.manifest.hidden_size)
    texts = {"name": "text", "datatype": "BYTES", "shape": [-1]}
    vectors = {"name": "embedding", "datatype": "FP32", "shape": [-1, size]}
    return json_response(
        {
            "name": model.name,
            "versions": [model.fingerprint],
            "platform": "onnxruntime_onnx",
            "inputs": [] if head is None else [texts],
            "outputs": [] if head is None else [vectors],
        }
    )


def _find(ask: Asker) -> LoadedModel:
    ask.state.manager.check_loaded()
    found: LoadedModel = ask.state.manager.registry.find(ask.path["model"], "")
    return found
