"""Each task in text-embeddings-inference's words, of a model or of the first that has it."""

from collections.abc import Sequence
from typing import Any

import orjson

from models.derived.tokens import MOST_TOKENS, join_tokens, split_text
from models.errors import EmptyInput, InvalidValue
from models.heads import ClassifyOptions, EmbedOptions, SparseOptions, SparseVector
from models.heads.head import PARTS_OF_A_VECTOR
from models.text.encoder import Encoder
from service.answering.answerer import Conversion, Question
from service.answering.derived import Ranking, compare_texts, rank
from service.api.foreign import (
    answer_cut,
    as_list,
    choose_overflow,
    choose_side,
    list_inputs,
    read_documents,
)
from service.api.openai.representations import check_weights
from service.api.route import Answer, Asker, json_response, write, write_numbers
from service.api.tei.bodies import (
    DecodeRequest,
    EmbedRequest,
    PredictRequest,
    RerankRequest,
    SimilarityRequest,
    TokenizeRequest,
    Truncatable,
)


def _options(ask: Asker, body: Truncatable) -> dict[str, Any]:
    return {
        "overflow": choose_overflow(ask, truncate=body.truncate),
        "truncation_side": choose_side(body.truncation_direction),
    }


async def embed(body: EmbedRequest, model: str | None, ask: Asker) -> Answer:
    """A vector for each input."""
    options = EmbedOptions(
        normalize=body.normalize,
        dimensions=body.dimensions,
        prompt=body.prompt_name,
        **_options(ask, body),
    )
    question = Question("embed", list_inputs(body.inputs), options, model=model)
    reply = await ask.ask(question)
    return answer_cut(await write(reply.answers, reply.weight), reply.truncated_at)


async def embed_all(body: EmbedRequest, model: str | None, ask: Asker) -> Answer:
    """The hidden state of every token of each input, special ones too."""
    options = EmbedOptions(prompt=body.prompt_name, **_options(ask, body))
    question = Question("hidden", list_inputs(body.inputs), options, model=model)
    reply = await ask.ask(question)
    rows = (orjson.Fragment(write_numbers(answer)) for answer in reply.answers)
    return answer_cut(await write(rows, reply.weight), reply.truncated_at)


async def embed_sparse(body: EmbedRequest, model: str | None, ask: Asker) -> Answer:
    """The weights above zero of each input, by token id."""
    options = SparseOptions(prompt=body.prompt_name, **_options(ask, body))
    items = list_inputs(body.inputs)
    reply = await ask.ask(Question("embed", items, options, model=model, head="sparse"))
    check_weights(reply.answers, param="inputs")
    weights = sum(len(each.weights) for each in reply.answers)
    results = map(_write_sparse, reply.answers)
    written = await write(results, reply.weight + weights // PARTS_OF_A_VECTOR)
    return answer_cut(written, reply.truncated_at)


def _write_sparse(vector: SparseVector) -> list[Any]:
    pairs = zip(vector.token_ids.tolist(), vector.weights.tolist(), strict=True)
    return [{"index": index, "value": value} for index, value in pairs]


async def predict(body: PredictRequest, model: str | None, ask: Asker) -> Answer:
    """The labels of a text or a pair, best first; of a batch a list of such lists."""
    parts = as_list(body.inputs)
    single = all(isinstance(part, str) for part in parts)
    items = [_read_pair(item, place) for place, item in enumerate([parts] if single else parts)]
    options = ClassifyOptions(function="none" if body.raw_scores else None, **_options(ask, body))
    reply = await ask.ask(Question("classify", items, options, model=model))
    written = await write(reply.answers, reply.weight)
    return answer_cut(written[0] if single else written, reply.truncated_at)


def _read_pair(item: Any, place: int) -> str | tuple[str, str]:
    if isinstance(item, str):
        return item
    match item:
        case [str(text)]:
            return text
        case [str(text), str(pair)]:
            return text, pair
        case _:
            raise InvalidValue("a text or a pair is due here", param=f"inputs[{place}]")


async def rerank(body: RerankRequest, model: str | None, ask: Asker) -> Answer:
    """The texts by falling score, with their places."""
    documents, ranking = await _rank(body, model, ask)
    order = sorted(range(len(documents)), key=lambda place: -ranking.scores[place])
    text = body.return_text or body.return_documents
    results = [
        {"index": place, "score": ranking.scores[place]}
        | ({"text": documents[place]} if text else {})
        for place in order[: body.top_n or body.top_k]
    ]
    return answer_cut(results, ranking.truncated_at)


async def rerank_objects(body: RerankRequest, model: str | None, ask: Asker) -> Answer:
    """The documents with their scores, in their order, as Weaviate's module reads them."""
    documents, ranking = await _rank(body, model, ask)
    scores = [
        {"document": document, "score": score}
        for document, score in zip(documents, ranking.scores, strict=True)
    ]
    told = {"query": body.query, "property": body.property, "scores": scores}
    return answer_cut(told, ranking.truncated_at)


async def _rank(body: RerankRequest, model: str | None, ask: Asker) -> tuple[list[str], Ranking]:
    field = "texts" if body.texts is not None else "documents"
    documents = body.texts if body.texts is not None else read_documents(body.documents)
    if not documents:
        raise EmptyInput(f"`{field}` cannot be empty")
    ranking = await rank(
        ask.ask,
        body.query,
        documents,
        model=model,
        overflow=choose_overflow(ask, truncate=body.truncate),
        side=choose_side(body.truncation_direction),
        raw=bool(body.raw_scores),
        field=field,
    )
    return documents, ranking


async def tokenize(body: TokenizeRequest, model: str | None, ask: Asker) -> bytes:
    """The tokens of each text, in a list also where one stood alone."""
    texts = as_list(body.inputs)

    def convert(encoder: Encoder, text: str) -> tuple[bytes, int]:
        tokens = split_text(encoder, text, special=body.add_special_tokens, most=MOST_TOKENS)
        told = [
            {
                "id": token.id,
                "text": token.text,
                "special": token.special,
                "start": token.start,
                "stop": token.end,
            }
            for token in tokens
        ]
        return json_response(told), len(tokens)

    if body.prompt_name is not None:
        raise InvalidValue(
            "tokens are those of a text alone; leave the prompt out", param="prompt_name"
        )
    _, results, _ = await ask.convert(Conversion("tokenize", texts, convert, model=model))
    return json_response([orjson.Fragment(result) for result in results])


async def decode(body: DecodeRequest, model: str | None, ask: Asker) -> bytes:
    """The texts of token ids, in a list also where those of one stood alone."""
    alone = all(type(part) is int for part in body.ids)
    items = [body.ids] if alone else body.ids
    for place, item in enumerate(items):
        if not isinstance(item, list) or not all(type(part) is int for part in item):
            raise InvalidValue("a list of token ids is due here", param=f"ids[{place}]")

    def convert(encoder: Encoder, ids: Sequence[int]) -> tuple[bytes, int]:
        skip = body.skip_special_tokens
        text = join_tokens(encoder, ids, skip_special=skip, most=MOST_TOKENS)
        return json_response(text), len(ids)

    conversion = Conversion("detokenize", items, convert, model=model, field="ids")
    _, results, _ = await ask.convert(conversion)
    return json_response([orjson.Fragment(result) for result in results])


async def similarity(body: SimilarityRequest, model: str | None, ask: Asker) -> Answer:
    """The cosines of sentences with the source."""
    given = body.parameters
    options = EmbedOptions(prompt=given.prompt_name, **_options(ask, given))
    items = [body.inputs.source_sentence, *body.inputs.sentences]
    field = "inputs.sentences"
    question = Question("embed", items, options, model=model, field=field)
    reply, cosines = await compare_texts(ask.ask, question, source="inputs.source_sentence")
    return answer_cut(cosines, reply.truncated_at)
