"""Documents of a ranking, of which no more is read than so many of their tokens.

The query stays whole, and what is left of a document is then fitted to the model as any text.
"""

from models.errors import InvalidValue
from models.text.encoder import Encoder


def shorten(encoder: Encoder, document: str, tokens: int | None) -> tuple[str, int | None]:
    """What a document's first `tokens` are of, and where it is cut, None where it is whole.

    None reads all of it. Raises the errors of Encoder.encode; InvalidValue for less than a token.
    """
    if tokens is None:
        return document, None
    if tokens < 1:
        raise InvalidValue(f"{tokens} is not at least 1", param="document_tokens")
    special = encoder.max_tokens - encoder.room
    limited = encoder.limit(tokens + special)
    if limited is encoder:
        return document, None
    # A tokenizer reads what stands before the end of a token alike, whatever follows.
    cut = limited.encode(document, overflow="truncate", side="right").truncated_at
    assert not isinstance(cut, tuple)
    return document[:cut], cut
