"""What text-embeddings-inference's clients send, and those that share its paths."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from models.text.truncation import Overflow
from service.api.foreign import Direction, ForeignFields
from service.api.schemas import as_list


class Truncatable(ForeignFields):
    """Whether and where texts are cut; left out, the server's setting."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None


class EmbedRequest(Truncatable):
    """A text, token ids, or a list of these."""

    inputs: Any
    prompt_name: str | None = None
    normalize: bool = True
    dimensions: int | None = Field(default=None, ge=1)


class PredictRequest(Truncatable):
    """A text, a pair as a list of two, or a list of lists of one or two texts."""

    inputs: Any
    raw_scores: bool = False


class RerankRequest(Truncatable):
    """A query with texts; other servers' clients send documents by the same path.

    With documents and no model a bare list is due (Elasticsearch), with a property an object with
    scores (Weaviate), else what Cohere and Jina answer.
    """

    query: str
    texts: Annotated[list[str], Field(fail_fast=True)] | None = None
    documents: list[Any] | None = None
    model: str | None = None
    property: str | None = None
    overflow: Overflow | None = None
    raw_scores: bool | None = None
    return_text: bool = False
    return_documents: bool = False
    top_n: int | None = Field(default=None, ge=1)
    top_k: int | None = Field(default=None, ge=1)
    truncation: bool | None = None
    max_tokens_per_doc: int | None = Field(default=None, ge=1)


class SimilarityInputs(ForeignFields):
    """A source and what it is compared with."""

    source_sentence: str
    sentences: list[str] = Field(min_length=1, fail_fast=True)


class SimilarityParameters(Truncatable):
    """Beside the inputs."""

    prompt_name: str | None = None


class SimilarityRequest(ForeignFields):
    """A source with sentences."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters = SimilarityParameters()


class TokenizeRequest(ForeignFields):
    """A text or several."""

    inputs: Annotated[list[str], Field(fail_fast=True), BeforeValidator(as_list)]
    add_special_tokens: bool = True
    prompt_name: str | None = None


class DecodeRequest(ForeignFields):
    """Token ids of a text, or of several."""

    ids: Annotated[list[Any], Field(min_length=1)]
    skip_special_tokens: bool = True


class VertexRequest(ForeignFields):
    """Bodies of the model's own task."""

    instances: list[dict[str, Any]] = Field(min_length=1, fail_fast=True)
