"""The manifest of a bundle: what it holds, what it was made from, how exact it is.

Owns the format and its version. Does not touch the files it names; bundle.py does.
"""

from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from models.families import Layout

# Of a bundle, the least that a reader has to know: an older one would answer it wrongly.
FORMAT_VERSION = 2
# The second brought prompts, dimensions of the bundle's own, poolings, and texts that are cut from
# the left.
_PLAIN_VERSION = 1

# No size is above it: what counts in 32 bits can be added to in 64.
_MOST = (1 << 31) - 1

Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
PoolingSource = Literal["sentence-transformers", "option", "default"]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Function = Literal["softmax", "sigmoid", "none"]
# What an embed head gives of a text where that is not one dense vector.
Representation = Literal["sparse", "tokens"]
# Where a text that is too long is cut unless a request says otherwise.
TruncationSide = Literal["right", "left"]
# How a trunk's graph is written: in the kernels' form it has operators of our own, in the packed
# one an operator that GPUs alone have.
Form = Literal["kernels", "packed"]
# How two vectors are compared, by the words of sentence-transformers.
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]


def _check_inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name.isprintable():
        raise ValueError(f"{name!r} is not the name of a file")
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ValueError(f"{name!r} is not a file inside the bundle")
    return name


FileName = Annotated[str, AfterValidator(_check_inside)]


def split_poolings(pooling: str) -> tuple[Pooling, ...]:
    """The poolings whose vectors stand one behind another, as in `cls+mean`."""
    return tuple(part for name in pooling.split("+") for part in POOLINGS if part == name)


def _check_pooling(pooling: str) -> str:
    if "+".join(split_poolings(pooling)) != pooling:
        raise ValueError(f"{pooling!r} is not made of {', '.join(POOLINGS)}")
    return pooling


# One pooling, or several that stand one behind another.
Poolings = Annotated[str, AfterValidator(_check_pooling)]


class Part(BaseModel):
    """A part of the manifest: frozen, and open to fields that a later exporter adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class FileEntry(Part):
    """One file of the bundle, with what proves that it is the one that was exported.

    `loaded_bytes` is, of a graph, what its weights take in memory: more than the file where they
    are stored in half precision, and where they lie beside it.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0, lt=1 << 63)
    loaded_bytes: int | None = Field(default=None, ge=0, lt=1 << 63)


class SpecialToken(Part):
    """A token with a meaning of its own, by text and id."""

    token: str
    id: int = Field(ge=0, le=_MOST)


class LateInteraction(Part):
    """How a ColBERT asks its queries and documents.

    `query_tokens` and `document_tokens` are the longest of each. Queries are filled with
    `expansion_token` up to `expanded_tokens`; without `attend` the words of a query do not see
    these, which see the words. The ids in `skipped` are not answered to the roles in `skipped_for`.
    """

    query_tokens: int | None = Field(default=None, gt=0, le=_MOST)
    document_tokens: int | None = Field(default=None, gt=0, le=_MOST)
    expansion_token: int | None = Field(default=None, ge=0, le=_MOST)
    expanded_tokens: int = Field(default=0, ge=0, le=_MOST)
    attend: bool = True
    skipped: tuple[int, ...] = ()
    skipped_for: tuple[Literal["query", "document"], ...] = ()


class HeadEntry(Part):
    """One head of the bundle.

    `name` tells several heads of a task apart; `file` is its graph, absent where the head has no
    weights. `function` is what the checkpoint has applied to the logits, or else transformers' own
    pipeline. `pooling` is how a text's rows become the one that is answered or that the graph
    reads; left out, the first.

    Of an `embed` head: `dimensions` is the size of its vectors, left out where that is the hidden
    size, `default_dimensions` how many of them are given unasked, and `similarity` what they are
    compared by. `prompts` are texts that go before a text, by name, `default_prompt` the name of
    the one that does unasked; without `include_prompt` its tokens are seen and not pooled. Of a
    `classify` head these three are the same, and `entailment` is the label that says that a pair's
    second text follows, where no label says so by its name.

    A `representation` is named as it is. A `sparse` one has the fill-mask graph, `activation` is
    what it makes of the logits before log1p, and `aggregation` what of a text's tokens. One of
    `tokens` has the graph that projects each of them, and `late` says how it is asked.
    """

    task: str
    name: str | None = None
    file: FileName | None = None
    labels: tuple[str, ...] | None = None
    problem_type: ProblemType | None = None
    function: Function | None = None
    pooling: Poolings | None = None
    pooling_source: PoolingSource | None = None
    dimensions: int | None = Field(default=None, gt=0, le=_MOST)
    default_dimensions: int | None = Field(default=None, gt=0, le=_MOST)
    similarity: Similarity | None = None
    prompts: dict[str, str] | None = None
    default_prompt: str | None = None
    include_prompt: bool = True
    representation: Representation | None = None
    activation: Literal["relu", "log1p_relu"] | None = None
    aggregation: Literal["max", "sum"] | None = None
    late: LateInteraction | None = None
    entailment: str | None = None

    @property
    def format_version(self) -> int:
        """The least version of the format whose readers answer with it as it is meant."""
        known = ("mean", "cls", "max") if self.task == "embed" else ("mean",)
        plain = self.pooling is None or self.pooling in known
        later = not plain or self.default_dimensions or self.prompts or self.representation
        return FORMAT_VERSION if later else _PLAIN_VERSION

    @model_validator(mode="after")
    def _check_entailment(self) -> "HeadEntry":
        if self.entailment is not None and self.entailment not in (self.labels or ()):
            raise ValueError(f"entailment {self.entailment!r} is not among the labels")
        return self

    def prefer(self, prompt: str | None) -> "HeadEntry":
        """One whose prompt of that name goes before texts unasked; itself where it has none."""
        if prompt is None or prompt not in (self.prompts or {}):
            return self
        return self.model_copy(update={"default_prompt": prompt})

    @model_validator(mode="after")
    def _check_prompt(self) -> "HeadEntry":
        if self.default_prompt is not None and self.default_prompt not in (self.prompts or {}):
            raise ValueError(f"default_prompt {self.default_prompt!r} is not among the prompts")
        return self


class Source(Part):
    """The checkpoint a bundle was made from."""

    name: str
    revision: str | None = None
    architecture: str
    config_sha256: str


class Parity(Part):
    """How far a task's answers are from the original model's, over the texts of the proof.

    Differences are of hidden states for `embed`, of logits for the others; where an `embed` head
    has weights or prompts, a second row of it is of its vectors. `largest_value` is the
    largest absolute value the original gave, which scales the limit where it is above 1. Cosines
    are of pooled vectors, agreements the part of texts (or masks, or labels) whose best answer, or
    whose five best, are the original's. A precision that is held to these has no `limit`.
    `lossy` says that it missed its threshold, and was written because --accept-loss was given.
    """

    task: str
    head: str | None = None
    precision: str
    engine: str = "onnxruntime"
    texts: int
    tokens: int
    largest_difference: float
    largest_value: float
    limit: float | None
    worst_cosine: float | None = None
    mean_cosine: float | None = None
    top1_agreement: float | None = None
    top5_agreement: float | None = None
    label_agreement: float | None = None
    lossy: bool = False


class Proof(Part):
    """Where, how long and how a bundle was proven.

    `company_cosine` is, for each precision, the worst between a text alone and among strangers.
    `kernels` are the instructions that our own operators were proven with.
    """

    processor: str
    features: tuple[str, ...]
    threads: int
    seconds: float
    company_cosine: dict[str, float]
    kernels: str | None = None


class Manifest(Part):
    """manifest.json of a bundle.

    `truncation_side` is where the checkpoint's tokenizer cuts what is too long; left by none but
    those that say so.
    """

    format_version: int
    name: str = Field(min_length=1)
    family: str
    layout: Layout
    max_tokens: int = Field(gt=0, le=_MOST)
    hidden_size: int = Field(gt=0, le=_MOST)
    layers: int = Field(gt=0, le=_MOST)
    vocabulary_size: int = Field(gt=0, le=_MOST)
    position_start: int = Field(ge=0, le=_MOST)
    segments: bool
    truncation_side: TruncationSide = "right"
    special_tokens: dict[str, SpecialToken]
    tasks: tuple[str, ...]
    heads: tuple[HeadEntry, ...] = Field(min_length=1)
    precisions: tuple[str, ...] = Field(min_length=1)
    fused_attention: int | None = None
    files: dict[FileName, FileEntry]
    source: Source
    tools: dict[str, str]
    parity: tuple[Parity, ...]
    proof: Proof | None = None

    @model_validator(mode="after")
    def _check_files_listed(self) -> "Manifest":
        needed = ["tokenizer.json", "golden.json"]
        # Graphs in the kernels' form have weights of the standard ones; bf16 has that form alone.
        needed += [
            trunk_file(precision, "kernels" if precision == "bf16" else None)
            for precision in self.precisions
        ]
        needed += [head.file for head in self.heads if head.file]
        missing = sorted(set(needed) - set(self.files))
        if missing:
            raise ValueError(f"files does not list {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _check_heads(self) -> "Manifest":
        seen: set[tuple[str, str | None]] = set()
        for head in self.heads:
            named = f"{head.task} {head.name or ''}".strip()
            if (head.task, head.name) in seen:
                raise ValueError(f"heads lists {named} twice")
            if head.labels is not None and len(set(head.labels)) < len(head.labels):
                raise ValueError(f"heads gives {named} one label twice")
            seen.add((head.task, head.name))
        return self


def list_graphs(manifest: Manifest, precision: str, form: Form | None = None) -> list[str]:
    """The files of the graphs that are loaded to serve in that precision, each once.

    In the form that is asked for, or in the one there is.
    """
    heads = dict.fromkeys(head.file for head in manifest.heads if head.file)
    trunk = trunk_file(precision, form)
    return [trunk if trunk in manifest.files else find_trunk(manifest, precision), *heads]


def find_trunk(manifest: Manifest, precision: str) -> str:
    """The trunk's graph in that precision, in the standard form where there is one."""
    standard = trunk_file(precision)
    return standard if standard in manifest.files else trunk_file(precision, "kernels")


def trunk_file(precision: str, form: Form | None = None) -> str:
    """The name of the trunk's graph in that precision, in the standard form or another."""
    return f"trunk.{precision}.{form}.onnx" if form else f"trunk.{precision}.onnx"


def head_file(task: str, name: str | None) -> str:
    """The name of a head's graph."""
    return f"head.{task}.{name}.onnx" if name else f"head.{task}.onnx"
