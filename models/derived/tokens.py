"""The tokens of a text as its model reads it, and the text that token ids spell."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import InputTooLong, InvalidToken
from models.text.encoder import Encoder

# Of one text over HTTP: told, they are 20 MB, and spelled while nobody else has the interpreter.
MOST_TOKENS = 1 << 18


@dataclass(frozen=True, slots=True)
class TextToken:
    """A token: what the text has there, from `start` to `end` in its characters, and its id.

    One that is special is spelled by the vocabulary, and stands nowhere in the text.
    """

    text: str
    id: int
    start: int | None
    end: int | None
    special: bool


def split_text(
    encoder: Encoder, text: str, *, special: bool = True, most: int | None = None
) -> list[TextToken]:
    """All the tokens of a text; those that are put around it if `special`.

    Raises InvalidValue for half a surrogate pair, InputTooLong for more tokens than `most`.
    """
    read = encoder.read(text, most=most, special=special)
    encoding = read.encoding
    if most is not None and len(encoding) > most:
        more = "" if all(read.whole) else "more than "
        count = len(encoding)
        # A traceback would keep it.
        del encoding, read
        raise InputTooLong(
            f"the text has {more}{count} tokens, and at most {most} are told; send it in parts"
        )
    origins = read.trace()
    tokens = []
    for name, id_, of, (start, end) in zip(
        encoding.tokens, encoding.ids, origins.texts.tolist(), origins.offsets.tolist(), strict=True
    ):
        if of < 0:
            tokens.append(TextToken(name, id_, None, None, special=True))
        else:
            tokens.append(TextToken(text[start:end], id_, start, end, special=False))
    return tokens


def join_tokens(
    encoder: Encoder, ids: Sequence[int], *, skip_special: bool = True, most: int | None = None
) -> str:
    """The text that ids spell.

    Raises InvalidToken for one outside the vocabulary, InputTooLong for more of them than `most`.
    """
    if most is not None and len(ids) > most:
        raise InputTooLong(f"{len(ids)} token ids are more than {most}; send them in parts")
    for place, token in enumerate(ids):
        if not 0 <= token < encoder.vocabulary_size:
            raise InvalidToken(
                f"token id {token} at place {place} is outside the model's vocabulary of "
                f"{encoder.vocabulary_size}; send ids from this model's own tokenizer"
            )
    return str(encoder.tokenizer.decode(list(ids), skip_special_tokens=skip_special))
