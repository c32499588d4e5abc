"""What Hugging Face's clients send, task by task, and which task a body without a name means."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from models.heads import Aggregation
from service.api.foreign import Direction, ForeignFields, read_body
from service.api.schemas import as_list
from service.errors import InvalidRequest

TaskName = Literal[
    "feature-extraction",
    "fill-mask",
    "question-answering",
    "sentence-similarity",
    "text-classification",
    "token-classification",
    "zero-shot-classification",
]


# Words in a parameter: as many as our own routes take.
_FEW = Field(max_length=1000, fail_fast=True)

ParametersT = TypeVar("ParametersT", bound=ForeignFields)


class HuggingFaceRequest(ForeignFields):
    """Inputs with parameters; of feature extraction these stand beside the inputs."""

    inputs: Any
    parameters: dict[str, Any] | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    dimensions: int | None = None


class Truncation(ForeignFields):
    """Whether and where a text that is too long is cut."""

    truncate: bool | None = None
    truncation: bool | str | None = None
    truncation_direction: Direction | None = None

    @property
    def wanted(self) -> bool | None:
        """Whether it is cut; None where nothing is said."""
        if self.truncate is not None or self.truncation is None:
            return self.truncate
        return self.truncation not in (False, "do_not_truncate")


class FillMaskParameters(Truncation):
    """Of fill-mask; as many candidates at most, also of targets, as the pipeline has it."""

    top_k: int = Field(default=5, ge=1)
    targets: Annotated[list[str], _FEW, BeforeValidator(as_list)] | None = None


class ClassificationParameters(Truncation):
    """Of text classification."""

    top_k: int | None = Field(default=5, ge=1)
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class TokenParameters(Truncation):
    """Of token classification."""

    aggregation_strategy: Aggregation = "simple"
    ignore_labels: Annotated[list[str], _FEW] = Field(default=["O"])
    stride: int | None = None


class AnswerParameters(Truncation):
    """Of question answering."""

    top_k: int = Field(default=1, ge=1, le=1000)
    doc_stride: int | None = None
    max_answer_len: int = Field(default=15, ge=1, le=1000)
    handle_impossible_answer: bool = False
    align_to_words: bool = True


def _split(labels: Any) -> Any:
    """Labels that are written as one text, with commas between them."""
    return labels.split(",") if isinstance(labels, str) else labels


class ZeroShotParameters(Truncation):
    """Of zero-shot classification."""

    candidate_labels: Annotated[list[str], _FEW, BeforeValidator(_split)]
    multi_label: bool = False
    hypothesis_template: str = "This example is {}."

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, each once."""
        parts = (part.strip() for part in self.candidate_labels)
        return tuple(dict.fromkeys(part for part in parts if part))


class FeatureParameters(Truncation):
    """Of feature extraction."""

    normalize: bool = True
    prompt_name: str | None = None
    dimensions: int | None = Field(default=None, ge=1)


def read_parameters(kind: type[ParametersT], given: dict[str, Any] | None) -> ParametersT:
    """The parameters of a task. Raises InvalidRequest that names the one that is wrong."""
    try:
        return read_body(kind, given or {})
    except InvalidRequest as error:
        error.param = f"parameters.{error.param}"
        raise


def guess_task(
    body: HuggingFaceRequest, has: frozenset[str], masks: tuple[str, ...]
) -> TaskName | None:
    """The task that a body without one means, of a model that has these; None: its first."""
    given = body.inputs if isinstance(body.inputs, dict) else {}
    text = body.inputs if isinstance(body.inputs, str) else ""
    named = (body.parameters or {}).keys()
    signs: tuple[tuple[TaskName, bool], ...] = (
        ("sentence-similarity", "source_sentence" in given),
        ("question-answering", "question" in given),
        ("zero-shot-classification", "candidate_labels" in named),
        ("fill-mask", "fill-mask" in has and any(mask in text for mask in masks)),
        (
            "token-classification",
            bool({"aggregation_strategy", "ignore_labels", "stride"} & named),
        ),
        ("text-classification", "classify" in has and "function_to_apply" in named),
        ("feature-extraction", "embed" in has and body.parameters is None),
    )
    return next((task for task, meant in signs if meant), None)
