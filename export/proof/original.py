"""What the original model says: each text alone, through transformers' own class and tokenizer.

Knows no bundle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from export.proof.cases import Item, Reference, find_case
from export.proof.figures import pool_rows
from export.proof.texts import ProofTexts
from export.reading.checkpoint import Checkpoint
from export.reading.heads import SourceHead
from models.heads import TokensOptions
from models.tasks import TASKS, Rows

Progress = Callable[[str], None]


@dataclass(slots=True)
class References:
    """The original's answers, of each head in the order it was asked."""

    heads: list[tuple[SourceHead, list[Reference]]] = field(default_factory=list)

    @property
    def dimensions(self) -> int | None:
        """The size of the vectors, where the checkpoint projects the pooled ones."""
        every = (reference for _, references in self.heads for reference in references)
        vector = next((each.vector for each in every if each.vector is not None), None)
        return None if vector is None else len(vector)


def ask_original(
    checkpoint: Checkpoint,
    heads: Sequence[SourceHead],
    *,
    progress: Progress,
    lines: Sequence[str] | None = None,
) -> References:
    """Ask the checkpoint's own classes, a text at a time: the proof's texts, or the lines."""
    texts = ProofTexts(checkpoint.tokenizer, checkpoint.max_tokens, lines)
    answers = References()
    for head in heads:
        project = _keep if head.weights else _find_projection(checkpoint)
        references = []
        for place, item in enumerate(find_case(head).draw(texts)):
            # Of a ColBERT every second text is asked about as a query.
            query = head.late is not None and head.late.expansion is not None and place % 2
            ask = _ask_query if query else _ask
            references.append(project(ask(checkpoint, head, item)))
            progress("original")
        answers.heads.append((head, references))
    return answers


def count_questions(heads: Sequence[SourceHead]) -> int:
    """How many items `ask_original` asks about."""
    return sum(find_case(head).items for head in heads)


def _ask(checkpoint: Checkpoint, head: SourceHead, item: Item) -> Reference:
    first, second = (item, None) if isinstance(item, str) else item
    encoded = checkpoint.tokenizer(
        first,
        second,
        truncation="longest_first" if second is not None else True,
        max_length=checkpoint.max_tokens,
        return_tensors="pt",
        return_token_type_ids=checkpoint.segments,
    )
    ids = encoded["input_ids"][0]
    with torch.inference_mode():
        found = head.read_logits(head.model(**encoded))[0]
        if head.pool is not None:
            found = head.pool(found)
    if TASKS[head.task].rows is Rows.MASK:
        found = found[ids == checkpoint.tokenizer.mask_token_id]
    return Reference(item, tuple(ids.tolist()), found.reshape(-1, found.shape[-1]).numpy())


def _ask_query(checkpoint: Checkpoint, head: SourceHead, item: Item) -> Reference:
    """A ColBERT's own query: filled with a token that sees the words, which see it or do not."""
    late, tokenizer = head.late, checkpoint.tokenizer
    assert late is not None
    expansion = late.expansion
    assert expansion is not None
    longest = expansion.length if expansion.strategy == "fixed" else late.query_tokens
    words: list[int] = tokenizer(
        item,
        truncation=True,
        max_length=min(longest or checkpoint.max_tokens, checkpoint.max_tokens),
    )["input_ids"]
    filling = tokenizer.convert_tokens_to_ids(expansion.token or tokenizer.mask_token)
    missing = max(expansion.length - len(words), 0)
    ids = torch.tensor([words + [filling] * missing])
    seen = torch.tensor([[1] * len(words) + [int(expansion.attend)] * missing])
    with torch.inference_mode():
        rows = late.modules(head.read_logits(head.model(input_ids=ids, attention_mask=seen))[0])
    kept = torch.ones(len(rows), dtype=torch.bool)
    if "query" in late.skipped_for:
        skipped = torch.tensor(late.list_skipped(tokenizer))
        kept[: len(words)] = ~torch.isin(torch.tensor(words), skipped)
    asked = TokensOptions(role="query", overflow="truncate", prompt="")
    return Reference(item, tuple(ids[0].tolist()), rows[kept].numpy(), asked=asked)


def _keep(reference: Reference) -> Reference:
    return reference


def _find_projection(checkpoint: Checkpoint) -> Callable[[Reference], Reference]:
    """Adds the vector, by the checkpoint's own modules in torch; nothing where it has none."""
    projection = checkpoint.read_projection()
    if projection is None:
        return _keep
    pooling = checkpoint.sentences.pooling

    def project(reference: Reference) -> Reference:
        pooled = torch.from_numpy(pool_rows(reference.output, pooling))
        with torch.inference_mode():
            return replace(reference, vector=projection(pooled[None])[0].numpy())

    return project
