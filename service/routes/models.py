"""GET /v1/models: what is loaded, in OpenAI's list."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from service.engine import Engine
from service.routes.route import ERRORS, TaskRoute, json_response

router = APIRouter(prefix="/v1", tags=["models"], route_class=TaskRoute)


class HeadInfo(BaseModel):
    """A head: its task, its name if it has one, its labels if it has any."""

    task: str
    name: str | None
    labels: list[str] | None


class ModelInfo(BaseModel):
    """A loaded bundle. The fingerprint changes whenever a file of it does."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    tasks: list[str]
    heads: list[HeadInfo]
    family: str
    max_tokens: int
    dimensions: int
    pooling: str | None
    precision: str
    fingerprint: str


class ModelsResponse(BaseModel):
    """Every loaded model, in the order in which they are asked."""

    object: Literal["list"]
    data: list[ModelInfo]


@router.get(
    "/models",
    response_model=ModelsResponse,
    responses={status: ERRORS[status] for status in (401, 429, 500, 503)},
)
async def list_models(request: Request) -> Response:
    """List the loaded models."""
    engine: Engine = request.app.state.engine
    engine.check_ready()
    data = []
    for model in engine.registry:
        manifest = model.pipeline.manifest
        heads = [head.entry for head in model.pipeline.heads]
        data.append(
            {
                "id": model.name,
                "object": "model",
                "created": engine.started,
                "owned_by": "cloze",
                "tasks": list(dict.fromkeys(head.task for head in heads)),
                "heads": [
                    {"task": head.task, "name": head.name, "labels": head.labels} for head in heads
                ],
                "family": manifest.family,
                "max_tokens": manifest.max_tokens,
                "dimensions": next(
                    (head.dimensions for head in heads if head.dimensions), manifest.hidden_size
                ),
                "pooling": next((head.pooling for head in heads if head.pooling), None),
                "precision": model.pipeline.precision,
                "fingerprint": model.fingerprint,
            }
        )
    return json_response({"object": "list", "data": data})
