"""How much of a long text is read: what tells what stays of it, or that it is too much.

Owns where reading stops, and the characters ahead of a text that shift all others. A token takes
half a kilobyte on its way from the tokenizer, so that a text of megabytes would take gigabytes.
"""

from functools import cached_property

from tokenizers import Encoding, Tokenizer

from models.errors import InvalidValue
from models.text.boundaries import Boundaries
from models.text.reading import Reading
from models.text.runs import Runs, Shortened
from models.text.truncation import Overflow, Side, is_settled

# These are tokenised within three milliseconds.
_SHORT_CHARACTERS = 4_000
# So many are read at first for each token that may stay; a word of English has five.
_CHARACTERS_A_TOKEN = 8
# Tokens that are refused are counted in so many characters, in more only where these fit.
_COUNTED_CHARACTERS = 100_000
# Of these a normalizer may leave nothing; none is a part of what stands behind it (UAX 29).
CONTROLS = frozenset(map(chr, (*range(0x09), *range(0x0E, 0x20), *range(0x7F, 0xA0), 0xAD, 0xFEFF)))
# By how much more is read where that was not enough, and where every token is wanted.
_GROWTH = 4
_WANTED_GROWTH = 2


def is_long(*texts: str | None) -> bool:
    """Whether to tokenise them takes a while."""
    return sum(len(text) for text in texts if text is not None) > _SHORT_CHARACTERS


class Reader:
    """Reads texts and pairs of one tokenizer. Safe to use from several threads at once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def boundaries(self) -> Boundaries | None:
        """Where texts may be cut before they are read; None for nowhere."""
        return Boundaries.of(self._tokenizer)

    @cached_property
    def _runs(self) -> Runs | None:
        return Runs.of(self._tokenizer)

    def read_enough(
        self,
        parts: tuple[Shortened, ...],
        side: Side,
        overflow: Overflow,
        *,
        max_tokens: int,
        special: int,
    ) -> Reading:
        """The tokens of a long text or pair, or enough of them to say what stays and what does not.

        Each part is read from that side, to where a word ends whatever follows: there are such
        boundaries in almost every text. One without is read whole, but for the middle of long runs.
        Of `max_tokens` so many are `special`.
        """
        size = max(_CHARACTERS_A_TOKEN * max_tokens, _SHORT_CHARACTERS // 2)
        if overflow == "error":
            size = max(size, _COUNTED_CHARACTERS)
        room = max(max_tokens - special, 0)
        shortened = False
        while self.boundaries is not None and size < max(len(part.text) for part in parts):
            spans = [self.boundaries.cut(part.text, size, side) for part in parts]
            known = tuple(span for span in spans if span is not None)
            if len(known) == len(parts):
                read = self._read_spans(parts, known)
                if len(read.encoding) > max_tokens and (
                    overflow == "error" or _is_enough(read, room)
                ):
                    return read
            if not shortened and self._runs is not None:
                runs, shortened = self._runs, True
                parts = tuple(runs.shorten(part.text, part.removed[0]) for part in parts)
                continue
            # Of a pair it is then open which text is the longer one: the other is read whole.
            shorter = min(len(part.text) for part in parts) if len(parts) == 2 else 0
            size = max(size * _GROWTH, shorter)
        return self.read_whole(parts)

    def read_at_most(
        self,
        parts: tuple[Shortened, ...],
        most: int,
        *,
        ahead: tuple[tuple[int, int], ...] = (),
        special: bool = True,
    ) -> Reading:
        """All the tokens of a text, or more than `most` of them, from its beginning on.

        Of a pair that is said of the second one; of the first what is `ahead`, two of its
        characters, is read.
        """
        size = max(most, _SHORT_CHARACTERS)
        text = parts[-1].text
        while self.boundaries is not None and size < len(text):
            span = self.boundaries.cut(text, size, "right")
            if span is not None:
                read = self._read_spans(parts, (*ahead, span), special=special)
                if len(read.encoding) > most:
                    return read
            size *= _WANTED_GROWTH
        return self._read_spans(parts, (*ahead, (0, len(text))), special=special)

    def tokenize(self, text: str, pair: str | None = None, *, special: bool) -> Encoding:
        """All the tokens of a text or a pair. Raises InvalidValue for half a surrogate pair.

        Other threads go on meanwhile, unless it is a short text.
        """
        try:
            if not is_long(text, pair):
                return self._tokenizer.encode(text, pair, add_special_tokens=special)
            # `encode` keeps the interpreter to itself, seconds for a text of megabytes.
            whole = text if pair is None else (text, pair)
            return self._tokenizer.encode_batch([whole], add_special_tokens=special)[0]
        except TypeError:
            raise _refuse_surrogate() from None
        except BaseException as error:
            # Rust's own end of a thread comes as no Exception, which nobody would take for one.
            if type(error).__module__ != "pyo3_runtime":
                raise
            raise RuntimeError(f"the tokenizer broke down: {error}") from None

    def read_whole(self, parts: tuple[Shortened, ...]) -> Reading:
        """All the tokens of a text or a pair."""
        texts = (part.text for part in parts)
        return Reading.whole_of(self.tokenize(*texts, special=True), parts)

    def as_parts(self, *texts: str | None) -> tuple[Shortened, ...]:
        """The texts as they were sent, without the characters ahead that would shift all others."""
        return tuple(self._leave_out_ahead(text) for text in texts if text is not None)

    def _leave_out_ahead(self, text: str) -> Shortened:
        body = text
        if text[:1] in CONTROLS:
            body = text.lstrip(self._shifting) if self._shifting else text
        return Shortened(body, len(text), removed=(len(text) - len(body),))

    @cached_property
    def _shifting(self) -> str:
        """The characters that, ahead of a text, are dropped, and still told as those of its tokens.

        By normalizers of sentencepiece's map, whose words the tokenizers library (0.23) then counts
        from 0.
        """
        probe = "{0}{0}a a"
        return "".join(
            each
            for each in sorted(CONTROLS)
            if (found := self._tokenizer.encode(probe.format(each), add_special_tokens=False))
            and found.offsets
            and found.offsets[-1][1] < len(probe.format(each))
        )

    def _read_spans(
        self,
        parts: tuple[Shortened, ...],
        spans: tuple[tuple[int, int], ...],
        *,
        special: bool = True,
    ) -> Reading:
        for part in parts:
            _check_unicode(part.text)
        cut = (part.text[start:end] for part, (start, end) in zip(parts, spans, strict=True))
        return Reading(self.tokenize(*cut, special=special), parts, spans)


def _is_enough(read: Reading, room: int) -> bool:
    """Whether what has not been read cannot change what stays."""
    if len(read.parts) == 1:
        return True
    texts = read.encoding.sequence_ids
    first, second = read.whole
    return is_settled((texts.count(0), texts.count(1)), (first, second), room)


def _check_unicode(text: str) -> None:
    """Raise InvalidValue for half a surrogate pair, also where nobody would read it."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _refuse_surrogate() from None


def _refuse_surrogate() -> InvalidValue:
    return InvalidValue("the text is not valid Unicode; it has one half of a surrogate pair")
