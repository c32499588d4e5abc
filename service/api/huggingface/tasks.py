"""Each task in Hugging Face's words: what is asked of a head, and the answer's shape.

Shapes are those that the clients check (huggingface_hub 2.4, @huggingface/inference 4.13): a list
of inputs is answered with a list of what one is.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from models.derived.zero_shot import ZeroShotOptions
from models.errors import InvalidValue
from models.heads import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    Entity,
    FillMaskOptions,
    Mask,
    TokenClassifyOptions,
)
from service.answering.answerer import Question, Reply
from service.answering.derived import compare_texts
from service.api.foreign import answer_cut, as_list, choose_overflow, choose_side, list_inputs
from service.api.huggingface.bodies import (
    AnswerParameters,
    ClassificationParameters,
    FeatureParameters,
    FillMaskParameters,
    HuggingFaceRequest,
    TokenParameters,
    Truncation,
    ZeroShotParameters,
    read_parameters,
)
from service.api.native.token_classify import write_entity
from service.api.route import Answer, Asker, write

Answering = Callable[[HuggingFaceRequest, str | None, Asker], Awaitable[Answer]]


def _list_texts(inputs: Any) -> list[str]:
    """The texts of a request, one or many."""
    found = as_list(inputs)
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise InvalidValue("a text is due here", param=f"inputs[{place}]")
    return found


async def _unwrap(inputs: Any, results: Iterable[Any], reply: Reply) -> Answer:
    """The results of many inputs, or of one that stood alone its own."""
    written = await write(results, reply.weight)
    return answer_cut(written if isinstance(inputs, list) else written[0], reply.truncated_at)


def _options(ask: Asker, given: Truncation) -> dict[str, Any]:
    overflow = ask.state.settings.overflow if given.wanted is None else None
    return {
        "overflow": overflow or choose_overflow(ask, truncate=given.wanted),
        "truncation_side": choose_side(given.truncation_direction),
    }


async def fill_mask(body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    """A list of tokens for one mask, of several a list of such lists."""
    given = read_parameters(FillMaskParameters, body.parameters)
    targets = None if given.targets is None else tuple(given.targets)
    options = FillMaskOptions(given.top_k, targets, **_options(ask, given))
    texts = _list_texts(body.inputs)
    reply = await ask.ask(Question("fill-mask", texts, options, model=model))
    return await _unwrap(body.inputs, map(_write_masks, reply.answers), reply)


def _write_masks(masks: Sequence[Mask]) -> list[Any]:
    """The candidates of the one mask of a text, or of each of several."""
    told = [
        [
            {
                "score": each.score,
                "token": each.token_id,
                "token_str": each.token,
                "sequence": each.sequence,
            }
            for each in mask.candidates
        ]
        for mask in masks
    ]
    return told[0] if len(told) == 1 else told


async def classify(body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    """A list of labels for each input, also where one stood alone."""
    given = read_parameters(ClassificationParameters, body.parameters)
    inputs = as_list(body.inputs)
    items = [_read_pair(item, place) for place, item in enumerate(inputs)]
    options = ClassifyOptions(given.top_k, given.function_to_apply, **_options(ask, given))
    reply = await ask.ask(Question("classify", items, options, model=model))
    return answer_cut(await write(reply.answers, reply.weight), reply.truncated_at)


def _read_pair(item: Any, place: int) -> str | tuple[str, str]:
    if isinstance(item, dict):
        text, pair = item.get("text"), item.get("text_pair")
        if isinstance(text, str) and pair is None:
            return text
        if isinstance(text, str) and isinstance(pair, str):
            return text, pair
    if isinstance(item, str):
        return item
    raise InvalidValue("a text is due here, or text with text_pair", param=f"inputs[{place}]")


async def token_classify(body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    """Groups with their label as entity_group; tokens, by none, with it as entity."""
    given = read_parameters(TokenParameters, body.parameters)
    texts = _list_texts(body.inputs)
    options = TokenClassifyOptions(
        given.aggregation_strategy,
        tuple(given.ignore_labels),
        stride=given.stride,
        **_options(ask, given),
    )
    reply = await ask.ask(Question("token-classify", texts, options, model=model))
    name = "entity" if given.aggregation_strategy == "none" else "entity_group"

    def tell(text: str, entities: Sequence[Entity]) -> list[Any]:
        told = [write_entity(text, entity) for entity in entities]
        return [{name: each.pop("label"), **each} for each in told]

    return await _unwrap(body.inputs, map(tell, texts, reply.answers), reply)


async def answer_questions(body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    """The best answer, with a top_k above 1 a list."""
    given = read_parameters(AnswerParameters, body.parameters)
    inputs = as_list(body.inputs)
    pairs = []
    for place, item in enumerate(inputs):
        pair = (item.get("question"), item.get("context")) if isinstance(item, dict) else ()
        if not (pair and all(isinstance(part, str) for part in pair)):
            raise InvalidValue("a question with its context is due here", param=f"inputs[{place}]")
        pairs.append(pair)
    options = AnswerOptions(
        given.top_k,
        given.max_answer_len,
        given.doc_stride,
        given.handle_impossible_answer,
        given.align_to_words,
        **_options(ask, given),
    )
    reply = await ask.ask(Question("answer", pairs, options, model=model))
    one = given.top_k == 1
    results = (answers[0] if one and answers else answers for answers in reply.answers)
    return await _unwrap(body.inputs, results, reply)


async def zero_shot(body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    """The labels best first; also of a list of one text, as the clients send it."""
    given = read_parameters(ZeroShotParameters, body.parameters)
    options = ZeroShotOptions(
        given.labels, given.hypothesis_template, given.multi_label, **_options(ask, given)
    )
    texts = _list_texts(body.inputs)
    reply = await ask.ask(Question("zero-shot", texts, options, model=model))
    written = await write(reply.answers, reply.weight)
    return answer_cut(written[0] if len(texts) == 1 else written, reply.truncated_at)


async def compare(body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    """The cosines of sentences with the source."""
    given = read_parameters(Truncation, body.parameters)
    inputs = body.inputs if isinstance(body.inputs, dict) else {}
    source, sentences = inputs.get("source_sentence"), inputs.get("sentences")
    if not isinstance(source, str) or not isinstance(sentences, list) or not sentences:
        raise InvalidValue("source_sentence and sentences are due here", param="inputs")
    for place, text in enumerate(sentences):
        if not isinstance(text, str):
            raise InvalidValue("a text is due here", param=f"inputs.sentences[{place}]")
    options = EmbedOptions(
        overflow=choose_overflow(ask, truncate=given.wanted),
        truncation_side=choose_side(given.truncation_direction),
    )
    question = Question(
        "embed", [source, *sentences], options, model=model, field="inputs.sentences"
    )
    reply, cosines = await compare_texts(ask.ask, question, source="inputs.source_sentence")
    return answer_cut(cosines, reply.truncated_at)


async def embed(body: HuggingFaceRequest, model: str | None, ask: Asker) -> Answer:
    """A vector for each input, in a list also where one stood alone."""
    beside = body.model_dump(exclude={"inputs", "parameters"}, exclude_none=True)
    given = read_parameters(FeatureParameters, {**(body.parameters or {}), **beside})
    options = EmbedOptions(
        normalize=given.normalize,
        dimensions=given.dimensions,
        overflow=choose_overflow(ask, truncate=given.wanted),
        prompt=given.prompt_name,
        truncation_side=choose_side(given.truncation_direction),
    )
    reply = await ask.ask(Question("embed", list_inputs(body.inputs), options, model=model))
    return answer_cut(await write(reply.answers, reply.weight), reply.truncated_at)


ANSWERING: dict[str, Answering] = {
    "feature-extraction": embed,
    "fill-mask": fill_mask,
    "question-answering": answer_questions,
    "sentence-similarity": compare,
    "text-classification": classify,
    "token-classification": token_classify,
    "zero-shot-classification": zero_shot,
}
# What the first task of a model is called there.
NAMES = {
    "embed": "feature-extraction",
    "fill-mask": "fill-mask",
    "classify": "text-classification",
    "token-classify": "token-classification",
    "answer": "question-answering",
}
