"""POST /, /models/{model}, and those paths that name a task, as hf-inference itself has them."""

from fastapi import APIRouter

from models.heads.fill_mask import COMMON_MASK, OTHER_MASK
from service.api.huggingface.bodies import HuggingFaceRequest, guess_task
from service.api.huggingface.dialect import HUGGING_FACE
from service.api.huggingface.tasks import ANSWERING, NAMES
from service.api.route import Answer, Ask, Asker, declare
from service.endpoint import Kind
from service.errors import RouteNotFound
from service.registry.loaded_model import LoadedModel

router = APIRouter(route_class=declare(Kind.WORK, HUGGING_FACE), include_in_schema=False)


@router.post("/models/{model:path}/pipeline/{task}", response_model=None)
async def answer_pipeline(body: HuggingFaceRequest, ask: Ask) -> Answer:
    """Answer a task by a model, both named in the path."""
    return await _answer(ask.path["task"], body, ask.path["model"], ask)


@router.post("/pipeline/{task}/{model:path}", response_model=None)
async def answer_older(body: HuggingFaceRequest, ask: Ask) -> Answer:
    """The same, by the older path."""
    return await _answer(ask.path["task"], body, ask.path["model"], ask)


@router.post("/models/{model:path}", response_model=None)
async def answer_model(body: HuggingFaceRequest, ask: Ask) -> Answer:
    """Answer what the body means, by a model that is named in the path."""
    model = ask.path["model"]
    return await _answer(find_task(body, model, ask), body, model, ask)


async def answer_root(body: HuggingFaceRequest, ask: Asker, model: str | None) -> Answer:
    """Answer what the body means, by that model or the first that has the task."""
    return await _answer(find_task(body, model, ask), body, model, ask)


def find_task(body: HuggingFaceRequest, name: str | None, ask: Asker) -> str:
    """The task that a body means, of the named model, or of all."""
    models = list_models(name, ask)
    has = frozenset(head.task.name for model in models for head in model.pipeline.heads)
    masks = {COMMON_MASK, OTHER_MASK} | {
        token.token
        for model in models
        if (token := model.pipeline.manifest.special_tokens.get("mask")) is not None
    }
    task = guess_task(body, has, tuple(masks))
    first: str = models[0].pipeline.heads[0].task.name
    return task or ("text-classification" if "classify" in has else NAMES.get(first, first))


def list_models(name: str | None, ask: Asker) -> list[LoadedModel]:
    """The named model, or all of them. Raises NotReady, ModelNotFound."""
    manager = ask.state.manager
    manager.check_loaded()
    registry = manager.registry
    return list(registry) if name is None else [registry.find(name, "")]


async def _answer(task: str, body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    answering = ANSWERING.get(task)
    if answering is None:
        raise RouteNotFound(f"there is no task {task[:100]!r}; there are {', '.join(ANSWERING)}")
    return await answering(body, model, ask)
