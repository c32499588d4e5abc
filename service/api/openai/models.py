"""GET /v1/models and /v1/models/{model}: what is loaded, as OpenAI tells it."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from models.bundle.manifest import HeadEntry
from service.api.openapi import ERRORS
from service.api.route import Ask, declare, json_response
from service.endpoint import Kind
from service.registry.loaded_model import LoadedModel
from service.registry.manager import ModelManager

router = APIRouter(prefix="/v1", tags=["models"], route_class=declare(Kind.WORK))


class HeadInfo(BaseModel):
    """A head: its task, its name if it has one, its labels if it has any.

    A `representation` says that it gives another thing than one dense vector: `sparse` ones, or
    those of `tokens`.
    """

    task: str
    name: str | None
    labels: list[str] | None
    representation: str | None


class ModelInfo(BaseModel):
    """A loaded bundle. The fingerprint changes whenever a file of it does, and tells what runs it.

    `aliases` are other names the operator has set for it, `*` all that no model has.
    A pooling whose source is `default` was guessed: the model embeds only where a request asks for
    it by name, `"model": NAME`.
    Prompts go before a text by `prompt_name`, and the default one unasked. Of its `dimensions` the
    first `default_dimensions` are given unasked, of a sparse vector so many weights; null: all.
    `derived_tasks` need no head of their own: similarity, rerank, zero-shot, score, attention.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    aliases: list[str]
    tasks: list[str]
    derived_tasks: list[str]
    heads: list[HeadInfo]
    family: str
    max_tokens: int
    dimensions: int
    default_dimensions: int | None
    pooling: str | None
    pooling_source: str | None
    prompts: dict[str, str]
    default_prompt: str | None
    precision: str
    engine: str
    engine_reason: str
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
async def list_models(ask: Ask) -> bytes:
    """List the loaded models."""
    manager: ModelManager = ask.state.manager
    manager.check_loaded()
    data = [describe(model, manager) for model in manager.registry]
    return json_response({"object": "list", "data": data})


# A name may have slashes in it, so it takes the rest of the path.
@router.get(
    "/models/{model:path}",
    response_model=ModelInfo,
    responses={status: ERRORS[status] for status in (401, 404, 429, 500, 503)},
    # Told here, since FastAPI would promise a 422 for a parameter of the function.
    openapi_extra={
        "parameters": [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    },
)
async def retrieve_model(ask: Ask) -> bytes:
    """Tell of one loaded model."""
    manager: ModelManager = ask.state.manager
    manager.check_loaded()
    model = manager.registry.find_named(ask.scope["path_params"]["model"])
    return json_response(describe(model, manager))


def describe(model: LoadedModel, manager: ModelManager) -> dict[str, Any]:
    """A loaded model, as the list has it."""
    manifest = model.pipeline.manifest
    heads = [head.entry for head in model.pipeline.heads]
    # Of several that embed, the one that answers /v1/embeddings.
    embeds = sorted((head for head in heads if head.task == "embed"), key=_is_represented)
    vectors = embeds[0] if embeds else None
    asked = next((head for head in heads if head.prompts), None)
    return {
        "id": model.name,
        "object": "model",
        "created": manager.started,
        "owned_by": "cloze",
        "aliases": manager.registry.aliases.list(model.name),
        "tasks": list(dict.fromkeys(head.task for head in heads)),
        "derived_tasks": model.pipeline.derived_tasks,
        "heads": [
            head.model_dump(include={"task", "name", "labels", "representation"}) for head in heads
        ],
        "family": manifest.family,
        "max_tokens": manifest.max_tokens,
        "dimensions": (vectors.dimensions if vectors else None) or manifest.hidden_size,
        "default_dimensions": vectors.default_dimensions if vectors else None,
        "pooling": vectors.pooling if vectors else None,
        "pooling_source": vectors.pooling_source if vectors else None,
        "prompts": (asked.prompts if asked else None) or {},
        "default_prompt": asked.default_prompt if asked else None,
        "precision": model.pipeline.precision,
        "engine": model.pipeline.choice.engine,
        "engine_reason": model.pipeline.choice.reason,
        "fingerprint": model.fingerprint,
    }


def _is_represented(head: HeadEntry) -> bool:
    return head.representation is not None
