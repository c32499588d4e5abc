"""A text as the trunk takes it, and where each of its tokens comes from.

Owns the arrays. Knows no tokenizer, and not why tokens were left out.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


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

    `origins` are there where they were asked for.
    """

    ids: Indices
    type_ids: Indices
    truncated: bool = False
    origins: Origins | None = None

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
