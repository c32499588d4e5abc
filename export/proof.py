"""The proof that a bundle answers as its checkpoint does.

The original answers each text alone, through transformers' own class and tokenizer. The bundle
answers them through models/pipeline, many packed into each batch. What differs by more than the
limit stops the export.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.checkpoint import Checkpoint
from export.checkpoint_heads import SourceHead
from export.errors import ProofFailed
from export.pooling import read_declared
from export.texts import ProofTexts
from models.heads import ClassifyOptions, EmbedOptions, FillMaskOptions, Head, Job
from models.heads import NextSentenceOptions as NextOptions
from models.heads.head import sigmoid, softmax
from models.manifest import Parity
from models.pipeline import Pipeline, form_batches

HIDDEN_LIMIT = 1e-4
LOGITS_LIMIT = 1e-3
TEXTS = 64
# Golden answers are computed whenever a service starts: a few dozen short inputs.
_GOLDEN_CASES = 24
_GOLDEN_TOKENS = 64
_GOLDEN_CANDIDATES = 5

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
            case "next-sentence":
                items = [*texts.pairs(TEXTS)]
            case _:
                items = [*texts.singles(TEXTS), *texts.pairs(TEXTS // 2)]
        answers.heads.append((head, [_ask(checkpoint, head, item, progress) for item in items]))
    return answers


def count_questions(heads: Sequence[SourceHead], *, embed: bool) -> int:
    """How many items `ask_original` asks about."""
    whole = TEXTS + TEXTS // 2
    return whole * embed + sum(
        TEXTS if head.task in ("fill-mask", "next-sentence") else whole for head in heads
    )


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
            hidden, logits = output.hidden_states[-1][0], output[head.output][0]
            if head.task == "fill-mask":
                logits = logits[encoded["input_ids"][0] == checkpoint.tokenizer.mask_token_id]
            logits = logits.reshape(-1, logits.shape[-1]).numpy()
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


def prove(pipeline: Pipeline, answers: References, progress: Progress) -> list[Parity]:
    """Compare, and return the figures. Raises ProofFailed over a limit, with the worst text."""
    figures = []
    if answers.embed:
        head = pipeline.find_head("embed")
        figures.append(_compare(pipeline, head, answers.embed, progress))
        if answers.dimensions is not None:
            figures.append(_compare_vectors(pipeline, head, answers.embed))
    for source, references in answers.heads:
        head = pipeline.find_head(source.task, source.name)
        figures.append(_compare(pipeline, head, references, progress))
    return figures


def _compare(
    pipeline: Pipeline,
    head: Head[Any, Any, Any],
    references: Sequence[Reference],
    progress: Progress,
) -> Parity:
    task = head.task.name
    jobs = [_prepare(head, reference) for reference in references]
    places = {id(job): place for place, job in enumerate(jobs)}
    largest_difference = largest_value = 0.0
    worst = 0
    # The longest first and alone, the others packed as they come.
    batches = [[job] for job in jobs[::8]] + list(form_batches(jobs))
    for batch in batches:
        hidden, packed = pipeline.run_trunk([job.encoded for job in batch])
        logits = None if task == "embed" else head.logits(hidden, batch, packed.starts)
        for number, (job, start) in enumerate(zip(batch, packed.starts.tolist(), strict=True)):
            place = places[id(job)]
            reference = references[place]
            if logits is None:
                wanted, found = reference.hidden, hidden[start : start + job.tokens]
            else:
                wanted, found = _expected_logits(reference), logits[number]
            if not wanted.size:
                continue
            difference = float(np.abs(wanted - found).max())
            # NaN compares as false with everything, so it is asked for by name.
            if np.isnan(difference) or difference > largest_difference:
                largest_difference, worst = difference, place
            largest_value = max(largest_value, float(np.abs(wanted).max()))
            progress("bundle")
    bound = HIDDEN_LIMIT if task == "embed" else LOGITS_LIMIT
    limit = bound * max(1.0, largest_value)
    if not largest_difference <= limit:
        raise ProofFailed(
            f"{task} differs from the original by {largest_difference:.2e}, more than "
            f"{limit:.2e}, at {_quote(references[worst].item)}"
        )
    return Parity(
        task=task,
        head=head.entry.name,
        precision=pipeline.precision,
        texts=len(jobs),
        tokens=sum(job.tokens for job in jobs),
        largest_difference=largest_difference,
        largest_value=largest_value,
        limit=limit,
    )


def _compare_vectors(
    pipeline: Pipeline, head: Head[Any, Any, Any], references: Sequence[Reference]
) -> Parity:
    """The same of the vectors of an embed head with weights, before they are normalised."""
    jobs = [_prepare(head, reference) for reference in references]
    for job in jobs:
        job.options = head.resolve(job.options)
    for batch in form_batches(jobs):
        pipeline.compute(batch)
    wanted = np.stack([np.asarray(reference.vector) for reference in references])
    largest_value = float(np.abs(wanted).max())
    found = np.stack([job.output for job in jobs])
    if found.shape != wanted.shape:
        raise ProofFailed(f"embed gives vectors of {found.shape[1]}, not of {wanted.shape[1]}")
    differences = np.abs(found - wanted).max(axis=1)
    limit = HIDDEN_LIMIT * max(1.0, largest_value)
    worst = int(differences.argmax())
    if not differences[worst] <= limit:
        raise ProofFailed(
            f"the vectors of embed differ from the original by {differences[worst]:.2e}, more than "
            f"{limit:.2e}, at {_quote(references[worst].item)}"
        )
    return Parity(
        task=head.task.name,
        head=head.entry.name,
        precision=pipeline.precision,
        texts=len(jobs),
        tokens=sum(job.tokens for job in jobs),
        largest_difference=float(differences[worst]),
        largest_value=largest_value,
        limit=limit,
    )


def _prepare(head: Head[Any, Any, Any], reference: Reference) -> Job:
    """The item as the service would prepare it; a pair for `embed`, which takes none, by hand."""
    options = {
        "embed": EmbedOptions(overflow="truncate"),
        "fill-mask": FillMaskOptions(overflow="truncate"),
        "next-sentence": NextOptions(overflow="truncate"),
        "classify": ClassifyOptions(overflow="truncate"),
    }[head.task.name]
    if head.task.name == "embed" and not isinstance(reference.item, str):
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
    if head.task.name == "next-sentence":
        return round(float(softmax(logits[0])[0]), 7)
    function = {"softmax": softmax, "sigmoid": sigmoid}.get(head.entry.function or "softmax")
    row = function(logits[0]) if function else logits[0]
    return [round(float(score), 7) for score in row]


def pool(hidden: Floats, pooling: str | None) -> Floats:
    """One normalised vector from hidden states, as sentence-transformers makes it."""
    return normalize(pool_rows(hidden, pooling))


def pool_rows(hidden: Floats, pooling: str | None) -> Floats:
    """One vector from hidden states, not normalised."""
    pooled: Floats = {
        "cls": lambda: hidden[0],
        "max": lambda: hidden.max(axis=0),
    }.get(pooling or "mean", lambda: hidden.mean(axis=0))()
    return pooled


def normalize(vector: Floats) -> Floats:
    """The vector with length 1."""
    unit: Floats = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit
