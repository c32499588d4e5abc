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


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of the checkpoint, and how many tokens it has with the special ones before it."""

    name: str
    text: str
    tokens: int


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
        prompts = _choose_prompts(checkpoint, head)
        references = []
        for place, item in enumerate(find_case(head).draw(texts)):
            # Of a ColBERT every second text is asked about as a query.
            if head.late is not None and head.late.expansion is not None and place % 2:
                reference = _ask_query(checkpoint, head, item)
            elif prompts and place % 4 == 2 and (isinstance(item, str) or head.weights):
                prompt = prompts[place // 4 % len(prompts)]
                reference = _ask(checkpoint, head, item, prompt)
            else:
                reference = _ask(checkpoint, head, item)
            references.append(project(reference))
            progress("original")
        answers.heads.append((head, references))
    return answers


def _choose_prompts(checkpoint: Checkpoint, head: SourceHead) -> list[Prompt]:
    """The prompts of a head that leave room for texts behind them."""
    prompts = [
        Prompt(name, text, _count_ahead(checkpoint, text))
        for name, text in sorted(head.list_prompts(checkpoint.sentences).items())
        if text
    ]
    return [prompt for prompt in prompts if prompt.tokens <= checkpoint.max_tokens // 2]


def _count_ahead(checkpoint: Checkpoint, prompt: str) -> int:
    """A prompt's tokens as sentence-transformers counts them: by itself, but for the last one."""
    ids = checkpoint.tokenizer(prompt)["input_ids"]
    return len(ids) - int(bool(ids) and ids[-1] in checkpoint.tokenizer.all_special_ids)


def count_questions(heads: Sequence[SourceHead]) -> int:
    """How many items `ask_original` asks about."""
    return sum(find_case(head).items for head in heads)


def _ask(
    checkpoint: Checkpoint, head: SourceHead, item: Item, prompt: Prompt | None = None
) -> Reference:
    first, second = (item, None) if isinstance(item, str) else item
    encoded = checkpoint.tokenizer(
        first if prompt is None else prompt.text + first,
        second,
        truncation="longest_first" if second is not None else True,
        max_length=checkpoint.max_tokens,
        return_tensors="pt",
        return_token_type_ids=checkpoint.segments,
    )
    ids = encoded["input_ids"][0]
    left_out = {} if prompt is None or head.include_prompt else {"ahead": prompt.tokens}
    with torch.inference_mode():
        found = head.read_logits(head.model(**encoded, **left_out))[0]
        if head.pool is not None:
            found = head.pool(found)
    if TASKS[head.task].rows is Rows.MASK:
        found = found[ids == checkpoint.tokenizer.mask_token_id]
    output = found.reshape(-1, found.shape[-1]).numpy()
    if prompt is None:
        return Reference(item, tuple(ids.tolist()), output)
    asked = replace(find_case(head).options, prompt=prompt.name)
    return Reference(item, tuple(ids.tolist()), output, asked=asked, ahead=prompt.tokens)


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
    """Adds the vector, by the checkpoint's own modules in torch, or, behind a prompt, by none."""
    projection, said = checkpoint.read_projection(), checkpoint.sentences

    def project(reference: Reference) -> Reference:
        if projection is None and (reference.asked is None or said.pooling is None):
            return reference
        ahead = 0 if said.include_prompt else reference.ahead
        pooled = pool_rows(reference.output, said.pooling, ahead)
        if projection is None:
            return replace(reference, vector=pooled)
        with torch.inference_mode():
            return replace(reference, vector=projection(torch.from_numpy(pooled)[None])[0].numpy())

    return project
