"""The proof that a bundle answers as its checkpoint does.

The original answers each text alone, through transformers' own class and tokenizer. The bundle
answers them through models/pipeline, many packed into each batch. What differs by more than the
limit stops the export.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import ProofFailed
from export.proof.figures import COMPANY_COSINE, Figures, find_fault, normalize, pool, pool_rows
from export.proof.texts import SENTENCES, ProofTexts
from export.reading.checkpoint import Checkpoint
from export.reading.heads import SourceHead
from export.reading.pooling import read_declared
from models.bundle.manifest import Parity
from models.golden import GOLDEN_SPANS, GOLDEN_TOKENS, LIMIT, measure_golden
from models.heads import (
    AnswerOptions,
    ClassifyOptions,
    EmbedOptions,
    FillMaskOptions,
    Head,
    Job,
    TokenClassifyOptions,
)
from models.heads import NextSentenceOptions as NextOptions
from models.heads.head import sigmoid, softmax
from models.pipeline import Pipeline, form_batches

TEXTS = 64
# Golden answers are computed whenever a service starts: a few dozen short inputs.
_GOLDEN_CASES = 24
_GOLDEN_TOKENS = 64
_GOLDEN_CANDIDATES = 5
_COMPANY_SEED = 20181011

Floats = NDArray[np.float32]
Item = str | tuple[str, str]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """What the original model says of one item: its ids, hidden states [T, H], and logits.

    `vector` [D] is what a head of embed with weights makes of it, before normalising.
    """

    item: Item
    ids: tuple[int, ...]
    hidden: Floats
    logits: Floats | None
    vector: Floats | None = None


@dataclass(slots=True)
class References:
    """The original's answers: hidden states for `embed`, and the logits of each head."""

    embed: list[Reference] = field(default_factory=list)
    heads: list[tuple[SourceHead, list[Reference]]] = field(default_factory=list)

    @property
    def dimensions(self) -> int | None:
        """The size of the vectors, where a head of embed with weights makes them."""
        vector = next((answer.vector for answer in self.embed), None)
        return None if vector is None else len(vector)


def ask_original(
    checkpoint: Checkpoint,
    heads: Sequence[SourceHead],
    *,
    embed: bool,
    progress: Progress,
    lines: Sequence[str] | None = None,
) -> References:
    """Ask the checkpoint's own classes, a text at a time: the proof's texts, or the lines."""
    texts = ProofTexts(checkpoint.tokenizer, checkpoint.max_tokens, lines)
    answers = References()
    if embed:
        items: list[Item] = [*texts.singles(TEXTS), *texts.pairs(TEXTS // 2)]
        project = _find_projection(checkpoint)
        answers.embed = [project(_ask(checkpoint, None, item, progress)) for item in items]
    for head in heads:
        match head.task:
            case "fill-mask":
                items = [*texts.masked(TEXTS)]
            case "next-sentence" | "answer":
                items = [*texts.pairs(TEXTS)]
            case "token-classify":
                items = [*texts.singles(TEXTS)]
            case _:
                items = [*texts.singles(TEXTS), *texts.pairs(TEXTS // 2)]
        answers.heads.append((head, [_ask(checkpoint, head, item, progress) for item in items]))
    return answers


def count_questions(heads: Sequence[SourceHead], *, embed: bool) -> int:
    """How many items `ask_original` asks about."""
    whole = TEXTS + TEXTS // 2
    return whole * embed + sum(whole if head.task == "classify" else TEXTS for head in heads)


def _ask(
    checkpoint: Checkpoint, head: SourceHead | None, item: Item, progress: Progress
) -> Reference:
    first, second = (item, None) if isinstance(item, str) else item
    encoded = checkpoint.tokenizer(
        first,
        second,
        truncation="longest_first" if second is not None else True,
        max_length=checkpoint.max_tokens,
        return_tensors="pt",
    )
    with torch.inference_mode():
        if head is None:
            output = checkpoint.trunk(**_known_inputs(checkpoint, encoded))
            hidden, logits = output.last_hidden_state[0], None
        else:
            output = head.model(**_known_inputs(checkpoint, encoded), output_hidden_states=True)
            hidden, found = output.hidden_states[-1][0], head.read_logits(output)[0]
            if head.task == "fill-mask":
                found = found[encoded["input_ids"][0] == checkpoint.tokenizer.mask_token_id]
            logits = found.reshape(-1, found.shape[-1]).numpy()
    progress("original")
    ids = tuple(encoded["input_ids"][0].tolist())
    return Reference(item, ids, hidden.numpy(), logits)


def _find_projection(checkpoint: Checkpoint) -> Callable[[Reference], Reference]:
    """Adds the vector, by the checkpoint's own modules in torch; nothing where it has none."""
    projection = checkpoint.read_projection()
    if projection is None:
        return lambda reference: reference
    pooling = read_declared(checkpoint.path)

    def project(reference: Reference) -> Reference:
        pooled = torch.from_numpy(pool_rows(reference.hidden, pooling))
        with torch.inference_mode():
            return replace(reference, vector=projection(pooled[None])[0].numpy())

    return project


def _known_inputs(checkpoint: Checkpoint, encoded: Any) -> dict[str, Any]:
    given = dict(encoded)
    if not checkpoint.segments:
        given.pop("token_type_ids", None)
    return given


def prove(
    pipeline: Pipeline, answers: References, progress: Progress, *, accept_loss: bool = False
) -> list[Parity]:
    """Compare, and return the figures. Raises ProofFailed for a fault, with the worst text.

    With `accept_loss` a precision other than fp32 may miss its threshold; its figures then say so.
    """
    compared = []
    if answers.embed:
        compared.append((pipeline.find_head("embed"), answers.embed))
    for source, references in answers.heads:
        compared.append((pipeline.find_head(source.task, source.name), references))
    rows = [
        (_compare(pipeline, head, references, progress), references)
        for head, references in compared
    ]
    if answers.dimensions is not None:
        head = pipeline.find_head("embed")
        rows.insert(1, (_compare_vectors(pipeline, head, answers.embed), answers.embed))
    return [_judge(figures, references, accept_loss=accept_loss) for figures, references in rows]


def _judge(figures: Figures, references: Sequence[Reference], *, accept_loss: bool) -> Parity:
    parity = figures.conclude()
    fault = find_fault(parity)
    if fault is None:
        return parity
    if accept_loss and parity.limit is None and not np.isnan(parity.largest_difference):
        return parity.model_copy(update={"lossy": True})
    where = _quote(references[figures.worst].item)
    remedy = "" if parity.limit is not None else "; leave that precision out, or give --accept-loss"
    what = "the vectors of embed differ" if figures.vectors else f"{parity.task} differs"
    raise ProofFailed(f"{what} from the original {fault}, at {where}{remedy}")


def _compare(
    pipeline: Pipeline,
    head: Head[Any, Any, Any],
    references: Sequence[Reference],
    progress: Progress,
) -> Figures:
    jobs = [_prepare(head, reference) for reference in references]
    places = {id(job): place for place, job in enumerate(jobs)}
    figures = Figures(head.entry, pipeline.precision, len(jobs), sum(job.tokens for job in jobs))
    # The longest first and alone, the others packed as they come.
    batches = [[job] for job in jobs[::8]] + list(form_batches(jobs))
    for batch in batches:
        hidden, packed = pipeline.run_trunk([job.encoded for job in batch])
        logits = None if head.task.name == "embed" else head.logits(hidden, batch, packed.starts)
        for number, (job, start) in enumerate(zip(batch, packed.starts.tolist(), strict=True)):
            place = places[id(job)]
            reference = references[place]
            if logits is None:
                rows = hidden.whole()[start : start + job.tokens]
                wanted, found = reference.hidden, rows
            else:
                wanted, found = _expected_logits(reference), logits[number]
            figures.add(place, wanted, found)
            progress("bundle")
    return figures


def measure_company(pipeline: Pipeline) -> float:
    """The worst cosine between a text alone and the same text among strangers.

    The strangers are what a shared scale would suffer from: one token many times, rare tokens, a
    text as long as the model takes. Vectors are means of hidden states. Raises ProofFailed below
    COMPANY_COSINE: an answer may not depend on who shares the batch.
    """
    encoder = pipeline.encoder
    chance = np.random.default_rng(_COMPANY_SEED)
    most = min(encoder.max_tokens, 256)
    rare = chance.integers(encoder.vocabulary_size * 9 // 10, encoder.vocabulary_size, most)
    strangers = [
        encoder.encode_ids([int(rare[0])] * most, overflow="truncate"),
        encoder.encode_ids(rare.tolist(), overflow="truncate"),
        encoder.encode_ids(
            chance.integers(0, encoder.vocabulary_size, 2 * most).tolist(), overflow="truncate"
        ),
    ]
    worst = 1.0
    texts = [encoder.encode(sentence, overflow="truncate") for sentence in SENTENCES]
    hidden, packed = pipeline.run_trunk([*strangers[:2], *texts, *strangers[2:]])
    for text, start in zip(texts, packed.starts[2:].tolist(), strict=False):
        alone, _ = pipeline.run_trunk([text])
        among = hidden.whole()[start : start + len(text.ids)]
        worst = min(worst, float(pool(alone.whole(), "mean") @ pool(among, "mean")))
    if not worst >= COMPANY_COSINE:
        raise ProofFailed(
            f"in {pipeline.precision} a text among others has a cosine of {worst:.4f} to itself "
            f"alone, below {COMPANY_COSINE:g}: answers would depend on who shares the batch"
        )
    return worst


def _compare_vectors(
    pipeline: Pipeline, head: Head[Any, Any, Any], references: Sequence[Reference]
) -> Figures:
    """The same of the vectors of an embed head with weights, before they are normalised."""
    jobs = [_prepare(head, reference) for reference in references]
    for job in jobs:
        job.options = head.resolve(job.options)
    for batch in form_batches(jobs):
        pipeline.compute(batch)
    figures = Figures(head.entry, pipeline.precision, len(jobs), sum(job.tokens for job in jobs))
    for place, (job, reference) in enumerate(zip(jobs, references, strict=True)):
        wanted, found = np.asarray(reference.vector), np.asarray(job.output)
        if found.shape != wanted.shape:
            raise ProofFailed(f"embed gives vectors of {found.shape}, not of {wanted.shape}")
        figures.add_vector(place, wanted, found)
    return figures


def _prepare(head: Head[Any, Any, Any], reference: Reference) -> Job:
    """The item as the service would prepare it.

    By hand, cut as transformers cuts it: a pair for `embed`, which takes none, and for `answer`,
    which reads in several windows what is too long.
    """
    options = {
        "embed": EmbedOptions(overflow="truncate"),
        "fill-mask": FillMaskOptions(overflow="truncate"),
        "next-sentence": NextOptions(overflow="truncate"),
        "classify": ClassifyOptions(overflow="truncate"),
        "token-classify": TokenClassifyOptions(overflow="truncate"),
        "answer": AnswerOptions(overflow="truncate"),
    }[head.task.name]
    if head.task.name in ("embed", "answer") and not isinstance(reference.item, str):
        encoded = head.encoder.encode(*reference.item, overflow="truncate")
        job = Job(head=head, item=reference.item, options=options, encoded=encoded)
    else:
        job = head.prepare(reference.item, options)
    if tuple(job.encoded.ids.tolist()) != reference.ids:
        raise ProofFailed(
            f"the tokenizer gives other ids than transformers' for {_quote(reference.item)}"
        )
    return job


def _expected_logits(reference: Reference) -> Floats:
    if reference.logits is None:
        raise ProofFailed("the original gave no logits")
    return reference.logits


def _quote(item: Item) -> str:
    text = item if isinstance(item, str) else " | ".join(item)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def make_golden(answers: References, pipeline: Pipeline) -> dict[str, Any]:
    """The content of golden.json: inputs with the original's answers, and how to batch them.

    `batches` holds places in `cases`: the first few alone, the others packed together.
    """
    tasks = []
    if answers.embed:
        head = pipeline.find_head("embed")
        cases = [reference for reference in answers.embed if isinstance(reference.item, str)]
        tasks.append(_golden_task(head, cases))
    for source, references in answers.heads:
        head = pipeline.find_head(source.task, source.name)
        tasks.append(_golden_task(head, references))
    return {"format_version": 1, "tasks": tasks}


def limit_golden(golden: dict[str, Any], pipeline: Pipeline) -> None:
    """Write down how far a narrow precision's golden answers may be from the original's.

    Twice what they are where the bundle is made: a processor on which it saturates is further off.
    """
    for task, deviation in zip(golden["tasks"], measure_golden(pipeline, golden), strict=True):
        limit = float(f"{min(1.0, max(LIMIT, 2 * deviation.largest)):.2g}")
        task.setdefault("limits", {})[pipeline.precision] = limit


def _golden_task(head: Head[Any, Any, Any], references: Sequence[Reference]) -> dict[str, Any]:
    # Shorter than the longest: none that had to be cut.
    longest = min(_GOLDEN_TOKENS, head.encoder.max_tokens - 1)
    short = [reference for reference in references if len(reference.ids) <= longest]
    cases = [
        {"input": reference.item, "answer": _golden_answer(head, reference)}
        for reference in short[:_GOLDEN_CASES]
    ]
    alone = min(4, len(cases))
    batches = [[place] for place in range(alone)] + [list(range(alone, len(cases)))]
    return {
        "task": head.task.name,
        "head": head.entry.name,
        "cases": cases,
        "batches": [batch for batch in batches if batch],
    }


def _golden_answer(head: Head[Any, Any, Any], reference: Reference) -> Any:
    if head.task.name == "embed":
        vector = reference.vector
        if vector is None:
            vector = pool_rows(reference.hidden, head.entry.pooling)
        return [round(float(value), 7) for value in normalize(vector)]
    logits = _expected_logits(reference)
    if head.task.name == "fill-mask":
        best = np.argsort(-logits, axis=-1, kind="stable")[:, :_GOLDEN_CANDIDATES]
        scores = np.take_along_axis(softmax(logits), best, axis=-1)
        return [
            {"token_ids": ids.tolist(), "scores": [round(float(score), 7) for score in row]}
            for ids, row in zip(best, scores, strict=True)
        ]
    if head.task.name in ("token-classify", "answer"):
        return _golden_parts(head, reference)
    if head.task.name == "next-sentence":
        return round(float(softmax(logits[0])[0]), 7)
    function = {"softmax": softmax, "sigmoid": sigmoid}.get(head.entry.function or "softmax")
    row = function(logits[0]) if function else logits[0]
    return [round(float(score), 7) for score in row]


def _golden_parts(head: Head[Any, Any, Any], reference: Reference) -> list[dict[str, Any]]:
    """What the head reads out of the original's logits: its entities, or its spans."""
    options = GOLDEN_TOKENS if head.task.name == "token-classify" else GOLDEN_SPANS
    job = head.prepare(reference.item, head.resolve(options))
    job.output = _expected_logits(reference)
    return [asdict(part) | {"score": round(part.score, 7)} for part in head.decode(job)]
