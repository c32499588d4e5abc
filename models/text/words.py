"""Where a long word may be cut before it is tokenised, so that its first tokens do not change.

Owns what is known of the models that make pieces of words. A word without an end (a base64 text,
a line of Chinese, a megabyte of blanks) has no boundary beside it, yet what its first tokens are
is decided after a few characters more: a piece is no longer than the longest of the vocabulary, so
that whatever follows, one of the next places so many characters on is the end of a piece. Where
the tokens of the text up to each of these places have an end in common, so has the whole text.

For BPE that is asked of two neighbours at a time: tokens, each of which is written as itself and
each two neighbours of which are written as these two, are those of the whole, if no merge comes
before those that make its parts (Berglund and van der Merwe, "Formalizing BPE Tokenization", 2023;
Cognetta and Okazaki, "Tokenization as Finite-State Transduction", 2024).
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Self

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE, Unigram

from models.text.parts import is_plain, list_parts, list_replaced

# A vocabulary with a longer piece is asked too many questions.
_LONGEST_PIECE = 256
# The forms of Unicode look no further than at a letter and its marks.
_FORMS = frozenset({"NFC", "NFD", "NFKC", "NFKD"})
_BLANKS = re.compile(r"\s*")
# How many of its ends in front of the last one are tried.
_TRIED = 4


class Words:
    """The places inside long words at which one tokenizer's texts may be cut."""

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self._tokenizer = tokenizer
        parts = {part["type"] for part in list_parts(tokenizer.normalizer, "normalizers")}
        self._forms = parts <= _FORMS if parts else None
        self._replaced = list_replaced(tokenizer.normalizer)
        self._model = tokenizer.model
        self._is_bpe = isinstance(self._model, BPE)
        self._longest = longest
        added = tokenizer.get_added_tokens_decoder().values()
        self._added = {text for token in added for text in self._write(token.content)}
        # They take the blanks before them, however many.
        self._lstrip = tuple(token.content for token in added if token.lstrip)
        blanks = [token.content for token in added if not token.content.strip(" ")]
        self._blanks = max(map(len, blanks), default=0)
        self._margin = max(map(len, self._added), default=0)
        self._pairs: dict[tuple[str, str], bool] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self | None:
        """Those of a tokenizer all parts of which are known; None where there are none."""
        model = tokenizer.model
        kinds = [part["type"] for part in list_parts(tokenizer.pre_tokenizer, "pretokenizers")]
        if isinstance(model, Unigram):
            # Its single characters are pieces or unknown ones; bytes would be several at a time.
            state = json.loads(model.__getstate__())
            known = kinds[-1:] == ["Metaspace"] and not state.get("byte_fallback")
            pieces: Iterable[str] = tokenizer.get_vocab(with_added_tokens=False) if known else ()
        elif isinstance(model, BPE) and kinds == ["ByteLevel"]:
            pieces = _list_pieces(model)
        else:
            return None
        longest = max(map(len, pieces), default=0)
        return cls(tokenizer, longest) if 0 < longest <= _LONGEST_PIECE else None

    def find_stop(self, text: str, end: int) -> int | None:
        """A place at about `end` or before where the last word up to there may be cut."""
        stop = end + self._longest + 2
        if stop > len(text):
            return None
        begin = len(text[:end].rstrip(" "))
        if 0 < 2 * self._blanks < end - begin and not text[end : end + self._blanks].strip(" "):
            # Of many blanks each token has as many as one may have.
            place = end - (end - begin) % self._blanks
            return None if self._is_taken(text, place) else place
        word, begin = self._find_word(text[:stop], end)
        if self._is_bpe and begin > end - self._longest:
            # A word begins where it does whatever follows it.
            places: Iterable[int] = (begin,) if self._begins(text, begin, end) else ()
        else:
            places = self._find_inside(text[:stop], end, word, begin)
        return next((place for place in places if self._is_safe(text, place, stop)), None)

    def _find_inside(self, text: str, end: int, word: str, begin: int) -> Iterator[int]:
        """The places in the word that are ends of pieces whatever follows, last ones first."""
        if not word:
            return
        # Where each character of the word ends in what the model is given.
        normalizer = self._tokenizer.normalizer
        written = text if normalizer is None else normalizer.normalize_str(text)
        sizes = self._measure(written[begin - len(text) :])
        ahead = len(word) - sum(sizes)
        if ahead < 0:
            # It ends before the text does, so what is beyond the place is not its own.
            return
        ends = list(accumulate(sizes, initial=ahead))
        size = ends[end - begin]
        if size + self._longest > len(word) or not self._ends_with(text[:end], word[:size]):
            return
        found = self._find_bpe(word, size) if self._is_bpe else self._find_unigram(word, size)
        places = dict(zip(ends, range(begin, len(text)), strict=False))
        yield from (places[each] for each in found if each in places)

    def _find_word(self, text: str, end: int) -> tuple[str, int]:
        """The word at this place, as the model is given it, and where it begins; else nothing."""
        normalizer, splitter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        normal = text if normalizer is None else normalizer.normalize_str(text)
        for word, (start, stop) in reversed(splitter.pre_tokenize_str(normal)):
            # From the end: what the normalizer made of what is before does not matter.
            begin = len(text) - len(normal) + start
            if begin <= end:
                size = sum(self._measure(normal[start:stop]))
                same = self._is_alike(text[begin:], normal[start:])
                return (word, begin) if same and 0 <= len(word) - size <= 1 else ("", 0)
        return "", 0

    def _is_alike(self, text: str, normal: str) -> bool:
        """Whether the normalizer makes one character of each, looking at it alone."""
        normalizer = self._tokenizer.normalizer
        if text == normal:
            return True
        if len(text) != len(normal) or normalizer is None:
            return False
        forms = {each: normalizer.normalize_str(each) for each in set(text)}
        return all(forms[each] == form for each, form in zip(text, normal, strict=True))

    def _measure(self, written: str) -> list[int]:
        """How long each character is in what the model is given."""
        return [len(each.encode()) if self._is_bpe else 1 for each in written]

    def _begins(self, text: str, begin: int, end: int) -> bool:
        """Whether a token begins there where the text up to `end` is read, and no word changes.

        Of several blanks the last one is a part of what follows, and of the others where nothing
        does.
        """
        first, both = (
            self._tokenizer.encode(text[:stop], add_special_tokens=False)
            for stop in (begin, max(end, begin + 1))
        )
        count = len(first)
        return both.ids[:count] == first.ids and both.word_ids[:count] == first.word_ids

    def _ends_with(self, text: str, word: str) -> bool:
        """Whether these are the last tokens of the text."""
        wanted = [token.id for token in self._model.tokenize(word)]
        found = self._tokenizer.encode(text, add_special_tokens=False).ids
        return bool(wanted) and found[-len(wanted) :] == wanted

    def _find_unigram(self, word: str, size: int) -> Sequence[int]:
        """The ends that the best ways to all of the next places have in common, last ones first."""
        common: set[int] | None = None
        for end in range(size, size + self._longest):
            ends = {stop for _, stop in self._split(word[:end])}
            common = ends if common is None else common & ends
        return sorted(common or (), reverse=True)

    def _find_bpe(self, word: str, size: int) -> Sequence[int]:
        """The same; one of few, since each is asked for."""
        found: list[int] = []
        wanted = size
        for token, end in reversed(list(self._split(word[:size]))):
            if end > wanted:
                continue
            if self._goes_on(token, word, end, size):
                found.append(end)
            wanted = end - max(self._longest // _TRIED, 1)
            if size - wanted > 2 * self._longest or len(found) == _TRIED:
                break
        return found

    def _split(self, word: str) -> Iterator[tuple[str, int]]:
        """The pieces of a word, and where each ends."""
        end = 0
        for token in self._model.tokenize(word):
            end += len(token.value)
            yield token.value, end

    def _goes_on(self, token: str, word: str, begin: int, size: int) -> bool:
        """Whether the token stands there whatever the word has after those characters."""
        for end in range(max(size, begin + 1), size + self._longest):
            after = self._model.tokenize(word[begin:end])[0].value
            pair = (token, after)
            if pair not in self._pairs:
                if len(self._pairs) > 10_000:
                    self._pairs.clear()
                both = [found.value for found in self._model.tokenize(token + after)]
                self._pairs[pair] = both == [token, after]
            if not self._pairs[pair]:
                return False
        return True

    def _is_safe(self, text: str, place: int, stop: int) -> bool:
        """Whether neither an added token nor a normalizer reaches over the place."""
        near = text[max(place - self._margin, 0) : stop + self._margin]
        written = self._write(near)
        if any(token in each for token in self._added for each in written):
            return False
        return self._stays(text, place) and not self._is_taken(text, place)

    def _stays(self, text: str, place: int) -> bool:
        """Whether the normalizer writes what is before the place as if nothing followed."""
        before, after = text[place - 1], text[place]
        if self._forms is None:
            return True
        if is_plain(before) and is_plain(after):
            return not {before, after} & self._replaced
        if not self._forms or before != after:
            return False
        if before in " \t\n":
            return True
        # Marks are put in order; those of one kind are where nothing but they stands there.
        start = len(text[:place].rstrip(before))
        match = re.compile(f"{re.escape(before)}*").match(text, place)
        assert match is not None
        return text[start - 1 : start].isascii() and text[match.end() : match.end() + 1].isascii()

    def _is_taken(self, text: str, place: int) -> bool:
        """Whether it is among blanks that belong to an added token after them."""
        if not self._lstrip or not any(map(str.isspace, text[place - 1 : place + 1])):
            return False
        match = _BLANKS.match(text, place)
        assert match is not None
        return text.startswith(self._lstrip, match.end())

    def _write(self, text: str) -> set[str]:
        normalizer = self._tokenizer.normalizer
        return {text} if normalizer is None else {text, normalizer.normalize_str(text)}


def _list_pieces(model: BPE) -> Iterable[str]:
    """What a word may consist of; nothing where merges come before those that make their parts."""
    state = json.loads(model.__getstate__())
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    if any(state.get(key) for key in odd):
        return ()
    pieces = set(pre_tokenizers.ByteLevel.alphabet())
    if not pieces <= state["vocab"].keys():
        return ()
    last: dict[str, int] = {}
    for rank, (first, second) in enumerate(state["merges"]):
        pieces.add(first + second)
        last[first + second] = rank
    for rank, parts in enumerate(state["merges"]):
        for part in parts:
            if part not in pieces or last.get(part, -1) >= rank:
                return ()
    return pieces
