"""The proof that a bundle answers as its checkpoint does.

The original answered each text alone. The bundle answers them through models/pipeline, many packed
into each batch. What differs by more than the limit stops the export.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from export.errors import ProofFailed
from export.proof.cases import Case, Floats, Item, Reference, find_case
from export.proof.figures import Figures, find_fault
from export.proof.original import Progress, References
from models.bundle.manifest import Parity
from models.engines import Output
from models.heads import Head, Job, SparseHead
from models.heads.head import Indices
from models.pipeline import Pipeline, form_batches


def prove(
    pipeline: Pipeline, answers: References, progress: Progress, *, accept_loss: bool = False
) -> list[Parity]:
    """Compare, and return the figures. Raises ProofFailed for a fault, with the worst text.

    With `accept_loss` a precision other than fp32 may miss its threshold; its figures then say so.
    """
    rows = []
    for source, references in answers.heads:
        head, case = pipeline.find_head(source.task, source.name), find_case(source)
        rows.append((_compare(pipeline, head, case, references, progress), references))
        known = [reference for reference in references if reference.vector is not None]
        if known:
            rows.append((_compare_vectors(pipeline, head, case, known), known))
    parity = [_judge(figures, asked, accept_loss=accept_loss) for figures, asked in rows]
    return [row.model_copy(update={"engine": pipeline.choice.engine}) for row in parity]


def _compare(
    pipeline: Pipeline,
    head: Head[Any, Any, Any],
    case: Case,
    references: Sequence[Reference],
    progress: Progress,
) -> Figures:
    jobs = [_prepare(head, case, reference) for reference in references]
    places = {id(job): place for place, job in enumerate(jobs)}
    figures = _start_figures(pipeline, head, case, jobs)
    # The longest first and alone, the others packed as they come.
    batches = [[job] for job in jobs[::8]] + list(form_batches(jobs))
    for batch in batches:
        hidden, packed = pipeline.run_trunk([job.encoded for job in batch])
        for job, found in zip(batch, _read(head, hidden, batch, packed.starts), strict=True):
            place = places[id(job)]
            wanted = references[place].output
            # A text all of whose masks were cut away has no row to compare.
            if wanted.size:
                figures.add(place, wanted, found)
                case.count(figures, wanted, found)
            progress("bundle")
    return figures


def _read(
    head: Head[Any, Any, Any], hidden: Output, batch: Sequence[Job], starts: Indices
) -> list[Floats]:
    """What is compared of each job: its logits, or its hidden states where the task has none.

    Of a sparse vector its weights, zeros among them.
    """
    if isinstance(head, SparseHead):
        head.compute(hidden, batch, starts)
        return [head.spread(job.output)[None] for job in batch]
    if head.task.weights or head.entry.representation == "tokens":
        return head.logits(hidden, batch, starts)
    places = zip(batch, starts.tolist(), strict=True)
    rows = hidden.whole()
    return [rows[start : start + job.tokens] for job, start in places]


def _compare_vectors(
    pipeline: Pipeline,
    head: Head[Any, Any, Any],
    case: Case,
    references: Sequence[Reference],
) -> Figures:
    """The same of the vectors before they are normalised, where the original's are known."""
    jobs = [_prepare(head, case, reference) for reference in references]
    for job in jobs:
        job.options = head.resolve(job.options)
    for batch in form_batches(jobs):
        pipeline.compute(batch)
    figures = _start_figures(pipeline, head, case, jobs)
    for place, (job, reference) in enumerate(zip(jobs, references, strict=True)):
        wanted, found = np.asarray(reference.vector), np.asarray(job.output)
        if found.shape != wanted.shape:
            raise ProofFailed(
                f"{head.task.name} gives vectors of {found.shape}, not of {wanted.shape}"
            )
        figures.add_vector(place, wanted, found)
    return figures


def _start_figures(
    pipeline: Pipeline, head: Head[Any, Any, Any], case: Case, jobs: Sequence[Job]
) -> Figures:
    tokens = sum(job.tokens for job in jobs)
    return Figures(head.entry, pipeline.precision, case.limit, len(jobs), tokens)


def _prepare(head: Head[Any, Any, Any], case: Case, reference: Reference) -> Job:
    """The item as the service would prepare it, or by hand where the row says so."""
    if case.whole_pairs and not isinstance(reference.item, str):
        encoded = head.encoder.encode(*reference.item, overflow="truncate")
        job = Job(head=head, item=reference.item, options=case.options, encoded=encoded)
    else:
        job = head.prepare(reference.item, reference.asked or case.options)
    if tuple(job.encoded.ids.tolist()) != reference.ids:
        raise ProofFailed(
            f"the tokenizer gives other ids than transformers' for {_quote(reference.item)}"
        )
    return job


def _judge(figures: Figures, references: Sequence[Reference], *, accept_loss: bool) -> Parity:
    parity = figures.conclude()
    fault = find_fault(parity)
    if fault is None:
        return parity
    if accept_loss and parity.limit is None and not np.isnan(parity.largest_difference):
        return parity.model_copy(update={"lossy": True})
    where = _quote(references[figures.worst].item)
    remedy = "" if parity.limit is not None else "; leave that precision out, or give --accept-loss"
    what = f"the vectors of {parity.task} differ" if figures.vectors else f"{parity.task} differs"
    raise ProofFailed(f"{what} from the original {fault}, at {where}{remedy}")


def _quote(item: Item) -> str:
    text = item if isinstance(item, str) else " | ".join(item)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
