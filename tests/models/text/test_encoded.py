"""A part of a sequence keeps its special tokens, and says where each token comes from."""

import numpy as np

from models.text.encoded import Encoded, Origins

# [CLS] a b [SEP] c d e [SEP]
TEXTS = np.array([-1, 0, 0, -1, 1, 1, 1, -1])
ORIGINS = Origins(
    texts=TEXTS, offsets=np.arange(16).reshape(8, 2), words=np.array([-1, 0, 1, -1, 0, 1, 2, -1])
)
WHOLE = Encoded(ids=np.arange(10, 18), type_ids=np.array([0, 0, 0, 0, 1, 1, 1, 1]), truncated_at=7)


def test_where_the_tokens_of_a_text_stand() -> None:
    assert [ORIGINS.places(text).tolist() for text in (0, 1, -1)] == [[1, 2], [4, 5, 6], [0, 3, 7]]


def test_what_is_selected_keeps_special_tokens_and_order() -> None:
    part = WHOLE.select(ORIGINS, np.array([1]), np.array([5, 6]))
    kept = [0, 1, 3, 5, 6, 7]
    assert part.ids.tolist() == WHOLE.ids[kept].tolist()
    assert part.type_ids.tolist() == WHOLE.type_ids[kept].tolist()
    assert part.truncated
    assert part.origins is not None
    assert part.origins.texts.tolist() == TEXTS[kept].tolist()
    assert part.origins.offsets.tolist() == ORIGINS.offsets[kept].tolist()
    assert part.origins.words.tolist() == ORIGINS.words[kept].tolist()
    # The whole is as it was.
    assert WHOLE.origins is None
    assert len(WHOLE.ids) == 8
