"""The batches of an epoch: rows of texts, with what is asked about them."""

from dataclasses import dataclass, replace

import numpy as np

from training.pretraining.pairs import NO_PAIR, cut_texts
from training.rows import Ids, Rows, lay_out, pack_rows
from training.text.store import TokenStore
from training.text.vocabulary import CLS, MASK, SEP, SPECIAL_TOKENS

MASKED_SHARE = 0.15
_WINDOW = 4096  # texts packed together; enough for rows that are nearly full


@dataclass(frozen=True)
class Batch:
    """Masked rows with their questions.

    pair_cells [P]: the [CLS] of each pair; pair_labels [P]: whether its second part follows (0) or
    not (1). masked_cells [M] and masked_ids [M]: which tokens are hidden and what they were.
    """

    rows: Rows
    pair_cells: Ids
    pair_labels: Ids
    masked_cells: Ids
    masked_ids: Ids


class Epoch:
    """The rows of one pass over a corpus: the same for the same seed, number and width."""

    def __init__(self, store: TokenStore, width: int, seed: int, number: int) -> None:
        self._store = store
        self._width = width
        self._texts = cut_texts(store, width, (seed, number, width))
        rng = np.random.default_rng((seed, number, width, 1))
        order = rng.permutation(len(self._texts.label))
        lengths = self._texts.length
        plan: list[list[int]] = []
        for start in range(0, len(order), _WINDOW):
            plan += pack_rows(order[start : start + _WINDOW], lengths, width)
        self._plan = [plan[place] for place in rng.permutation(len(plan))]

    def __len__(self) -> int:
        return len(self._plan)

    def make_batch(
        self, start: int, count: int, vocabulary_size: int, rng: np.random.Generator
    ) -> Batch:
        """Rows start to start + count, masked anew by rng; fewer at the end of the epoch."""
        chosen = self._plan[start : start + count]
        members = [text for row in chosen for text in row]
        places = iter(range(len(members)))
        plan = [[next(places) for _ in row] for row in chosen]
        rows = lay_out([self._frame(text) for text in members], plan, self._width)
        labels = self._texts.label[members].astype(np.int64)
        paired = labels != NO_PAIR
        return _mask(rows, rows.first_cells[paired], labels[paired], vocabulary_size, rng)

    def _frame(self, text: int) -> list[Ids]:
        """The tokens of the first segment and, in a pair, of the second, with their specials."""
        begin, end, other, other_end = self._texts.spans[text].tolist()
        tokens = self._store.tokens
        segments = [np.concatenate([[CLS], tokens[begin:end], [SEP]])]
        if self._texts.label[text] != NO_PAIR:
            segments.append(np.concatenate([tokens[other:other_end], [SEP]]))
        return segments


def _mask(
    rows: Rows, pair_cells: Ids, pair_labels: Ids, vocabulary_size: int, rng: np.random.Generator
) -> Batch:
    """15% of the tokens hidden: 80% as [MASK], 10% as a random token, 10% left as they are."""
    ids = rows.token_ids.flatten()
    candidates = np.flatnonzero(ids >= len(SPECIAL_TOKENS))
    cells = rng.permutation(candidates)[: max(1, round(MASKED_SHARE * len(candidates)))]
    original = ids[cells]
    kind = rng.random(len(cells))
    ids[cells[kind < 0.8]] = MASK
    swapped = cells[(kind >= 0.8) & (kind < 0.9)]
    ids[swapped] = rng.integers(len(SPECIAL_TOKENS), vocabulary_size, size=len(swapped))
    masked = replace(rows, token_ids=ids.reshape(rows.token_ids.shape))
    return Batch(masked, pair_cells, pair_labels, cells, original)
