"""What else than one dense vector a text may be answered with, in OpenAI's shape."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from models.errors import InvalidValue
from models.heads import SparseOptions, SparseVector, TextRole, TokensOptions
from models.text.truncation import Overflow
from service.answering.answerer import Question

if TYPE_CHECKING:
    from service.api.openai.embed import EmbeddingsRequest

Representation = Literal["dense", "sparse", "tokens"]
InputType = Literal["query", "document", "passage", "search_query", "search_document"]

# Cohere's and NVIDIA's words for them, and ours.
ROLES: Mapping[str, TextRole] = {
    "query": "query",
    "document": "document",
    "passage": "document",
    "search_query": "query",
    "search_document": "document",
}
_DENSE_ALONE = (
    "dimensions",
    "normalize",
    "pooling",
    "windows",
    "window_overlap",
    "special_tokens",
)
# Of one answer: written, a weight with its token takes 20 bytes and more.
_MAX_WEIGHTS = 1 << 22


class SparseEmbedding(BaseModel):
    """The weights above zero, and the token ids they belong to, in rising order."""

    indices: list[int]
    values: list[float]


def make_question(body: "EmbeddingsRequest", role: TextRole | None, overflow: Overflow) -> Question:
    """What is asked of a head that gives sparse vectors, or one for each token.

    Raises InvalidValue for fields that are for dense vectors alone.
    """
    kind = body.representation
    refused = [*_DENSE_ALONE, *(["top_k"] if kind == "tokens" else [])]
    for name in refused:
        if name in body.model_fields_set and getattr(body, name) is not None:
            raise InvalidValue(f"this is not for {kind} vectors; leave it out", param=name)
    prompt, side = body.prompt_name, body.truncation_side
    options: SparseOptions | TokensOptions
    if kind == "sparse":
        options = SparseOptions(body.top_k, overflow, prompt, side, role)
    else:
        options = TokensOptions(role or "document", overflow, prompt, side)
    return Question("embed", body.input, options, model=body.model, head=kind, field="input")


def check_weights(vectors: Sequence[SparseVector], *, param: str = "top_k") -> None:
    """Raise InvalidValue for more weights than one answer may have."""
    count = sum(len(vector.weights) for vector in vectors)
    if count > _MAX_WEIGHTS:
        raise InvalidValue(
            f"the answer would have {count} weights, more than the {_MAX_WEIGHTS} of one; ask for "
            "fewer of each text, or send several requests",
            param=param,
        )


def count_parts(answers: Sequence[Any]) -> int:
    """About how many vectors it is work to write."""
    return sum(
        1 + len(answer.weights) // 256 if isinstance(answer, SparseVector) else len(answer)
        for answer in answers
    )


def write_sparse(vectors: Sequence[SparseVector]) -> Iterator[dict[str, Any]]:
    """The fields of each entry."""
    for vector in vectors:
        yield {"embedding": {"indices": vector.token_ids, "values": vector.weights}}
