"""text-embeddings-inference's paths, each at the root and below /tei/{model}.

One model is one server there, whose /info says what it is: some clients refuse to ask it for
anything else, so each model has a base of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
from fastapi import APIRouter
from pydantic import Field

from models.errors import CallerError
from service.answering.answerer import check_count
from service.api.cohere.rerank import answer_ranking
from service.api.foreign import Direction, ForeignFields, answer_cut, read_body
from service.api.huggingface.bodies import HuggingFaceRequest
from service.api.huggingface.routes import answer_root, list_models
from service.api.infinity.dialect import name_model
from service.api.route import Answer, Ask, Asker, declare, json_response
from service.api.tei import tasks
from service.api.tei.bodies import (
    DecodeRequest,
    EmbedRequest,
    PredictRequest,
    RerankRequest,
    SimilarityRequest,
    TokenizeRequest,
    VertexRequest,
)
from service.api.tei.dialect import TEI
from service.api.tei.info import describe_server
from service.endpoint import Kind
from service.errors import InvalidRequest
from service.registry.loaded_model import LoadedModel
from service.scope import RECORD

router = APIRouter(route_class=declare(Kind.WORK, TEI), include_in_schema=False)
# What Hugging Face's inference API has, too.
shared = APIRouter(route_class=declare(Kind.WORK, TEI), include_in_schema=False)
_BASES = ("", "/tei/{model:path}")
_SHARED = ("/", "/info")
# What is told of a request, added up over all that it asks.
_SPENT = ("items", "tokens", "tokenize", "queue", "infer", "decode")


def _post(path: str) -> Callable[[Any], Any]:
    """A route at the root, and one of each model."""

    def add(function: Any) -> Any:
        for base in _BASES:
            own = shared if base + path in _SHARED else router
            own.add_api_route(base + path, function, methods=["POST"], response_model=None)
        return function

    return add


def find_model(ask: Asker) -> str | None:
    """The model whose base was asked, none at the root."""
    return ask.path["model"] if "path_params" in ask.scope else None


@_post("/embed")
async def embed(body: EmbedRequest, ask: Ask) -> Answer:
    """Embed inputs."""
    return await tasks.embed(body, find_model(ask), ask)


@_post("/embed_all")
async def embed_all(body: EmbedRequest, ask: Ask) -> Answer:
    """Give the hidden states of inputs."""
    return await tasks.embed_all(body, find_model(ask), ask)


@_post("/embed_sparse")
async def embed_sparse(body: EmbedRequest, ask: Ask) -> Answer:
    """Embed inputs as weights of words."""
    return await tasks.embed_sparse(body, find_model(ask), ask)


@_post("/predict")
async def predict(body: PredictRequest, ask: Ask) -> Answer:
    """Classify inputs."""
    return await tasks.predict(body, find_model(ask), ask)


@_post("/rerank")
async def rerank(body: RerankRequest, ask: Ask) -> Answer | bytes:
    """Rank texts by a query; documents with a model as Cohere, vLLM and Infinity answer."""
    # The path goes before the body: one base is one model.
    model = find_model(ask) or name_model(body.model)
    if body.texts is None and body.model is not None:
        return await answer_ranking(body.model_copy(update={"model": model}), ask)
    if body.property is not None:
        return await tasks.rerank_objects(body, model, ask)
    return await tasks.rerank(body, model, ask)


@_post("/tokenize")
async def tokenize(body: TokenizeRequest, ask: Ask) -> bytes:
    """Split texts into tokens."""
    return await tasks.tokenize(body, find_model(ask), ask)


@_post("/decode")
async def decode(body: DecodeRequest, ask: Ask) -> bytes:
    """Spell token ids."""
    return await tasks.decode(body, find_model(ask), ask)


@_post("/similarity")
async def similarity(body: SimilarityRequest, ask: Ask) -> Answer:
    """Compare sentences with a source."""
    return await tasks.similarity(body, find_model(ask), ask)


class AnyRequest(ForeignFields):
    """A body of the model's own task: to embed, to predict, or to rank."""

    inputs: Any = None
    query: str | None = None
    texts: Annotated[list[str], Field(fail_fast=True)] | None = None
    parameters: dict[str, Any] | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None


async def answer_any(body: AnyRequest, ask: Asker) -> Answer:
    """Answer what the body means, by the model of the path or the first that has the task."""
    model = find_model(ask)
    given = body.model_dump(exclude_none=True)
    if body.query is not None:
        return await tasks.rerank(read_body(RerankRequest, given), model, ask)
    if body.inputs is None:
        raise InvalidRequest("the field is missing", param="inputs", code="missing_field")
    (first, *_) = list_models(model, ask)
    heads = {head.task.name for head in first.pipeline.heads}
    plain = model is not None and body.parameters is None
    if plain and "embed" not in heads and "classify" in heads:
        return await tasks.predict(read_body(PredictRequest, given), model, ask)
    return await answer_root(read_body(HuggingFaceRequest, given), ask, model)


@_post("/")
async def root(body: AnyRequest, ask: Ask) -> Answer:
    """Answer what the body means."""
    return await answer_any(body, ask)


@_post("/invocations")
async def invocations(body: AnyRequest, ask: Ask) -> Answer:
    """Answer what the body means, as SageMaker asks."""
    return await answer_any(body, ask)


@_post("/vertex")
async def vertex(body: VertexRequest, ask: Ask) -> Answer:
    """Answer several bodies at once, as Vertex AI asks; a header names those with a text cut."""
    bodies = []
    for place, given in enumerate(body.instances):
        with _name_instance(place):
            bodies.append(read_body(AnyRequest, given))
    check_count(sum(map(_count_items, bodies)), ask.state.settings.max_inputs, "instances")
    record = ask.scope[RECORD]
    answers, spent = [], dict.fromkeys(_SPENT, 0)
    for place, each in enumerate(bodies):
        with _name_instance(place):
            answers.append(await answer_any(each, ask))
        for name in _SPENT:
            spent[name] += getattr(record, name)
    for name, value in spent.items():
        setattr(record, name, value)
    told = {"predictions": [orjson.Fragment(answer.content) for answer in answers]}
    return answer_cut(told, [0 if answer.headers else None for answer in answers])


@contextmanager
def _name_instance(place: int) -> Iterator[None]:
    """What is wrong with a body is told with its place."""
    try:
        yield
    except (CallerError, InvalidRequest) as error:
        beside = f".{error.param}" if error.param else ""
        error.param = f"instances[{place}]{beside}"
        raise


def _count_items(body: AnyRequest) -> int:
    given = body.inputs if body.texts is None else body.texts
    if isinstance(given, dict):
        given = given.get("sentences")
    ids = isinstance(given, list) and all(type(part) is int for part in given)
    return len(given) if isinstance(given, list) and not ids else 1


@shared.get("/info", response_model=None)
@router.get("/tei/{model:path}/info", response_model=None)
async def info(ask: Ask) -> bytes:
    """Tell what the model is."""
    models = list_models(find_model(ask), ask)
    # That whose vectors are answered here, where there is one.
    embeds = (each for each in models if ("embed", None) in each.heads and not _is_unsure(each))
    first = next(embeds, models[0])
    return json_response(describe_server(first, ask.state.settings, ask.app.version))


def _is_unsure(model: LoadedModel) -> bool:
    """Whether its vectors are answered by its name alone."""
    return "embed" in model.guessed


# Some clients leave the slash at the end of a base out. After all others, since it has any name.
router.add_api_route("/tei/{model:path}", root, methods=["POST"], response_model=None)
