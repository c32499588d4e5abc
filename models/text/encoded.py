"""A text as the trunk takes it, and where each of its tokens comes from.

Owns the arrays. Knows no tokenizer, and not why tokens were left out.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

# Where a text was cut, in its own characters (of token ids, in ids): what stays ends there, or
# begins there if it was cut from the left. Of a pair one of each text, None for one that is whole.
Cut = int | tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each token comes from.

    `texts` [tokens] is 0 or 1 for the first or second text of a pair, -1 for a special token that
    stands in neither; `offsets` [tokens, 2] are the characters of that text, start and end, and
    `words` [tokens] the number of its word there, -1 where it has none.
    """

    texts: Indices
    offsets: Indices
    words: Indices

    def places(self, text: int) -> Indices:
        """Where the tokens of that text stand; -1: the special tokens."""
        return np.flatnonzero(self.texts == text)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text (or pair) as the trunk takes it: ids and segment ids [tokens], both int64.

    `truncated_at` says where it was cut, None where it is whole; `origins` are there where they
    were asked for. The last `aside` tokens see the others, which do not see them, and they do not
    see each other: for graphs that were exported so.
    """

    ids: Indices
    type_ids: Indices
    truncated_at: Cut | None = None
    origins: Origins | None = None
    aside: int = 0

    @property
    def truncated(self) -> bool:
        """Whether tokens were left out."""
        return self.truncated_at is not None

    def select(self, origins: Origins, first: Indices, second: Indices) -> "Encoded":
        """The same sequence with these tokens of its texts, and all its special tokens.

        `origins` are those of this sequence, which need not carry them itself; what is selected
        does.
        """
        keep = np.sort(np.concatenate([origins.places(-1), first, second]))
        return replace(
            self,
            ids=self.ids[keep],
            type_ids=self.type_ids[keep],
            origins=Origins(origins.texts[keep], origins.offsets[keep], origins.words[keep]),
        )

    def without_prompt(self, characters: int) -> "Encoded":
        """The same, its cut told in characters of what stands behind a prompt of so many."""
        at = self.truncated_at
        if at is None or not characters:
            return self
        if isinstance(at, int):
            return replace(self, truncated_at=max(at - characters, 0))
        first, second = at
        return replace(
            self, truncated_at=(None if first is None else max(first - characters, 0), second)
        )
