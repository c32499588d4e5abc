"""Splits English paragraphs into sentences, by rule.

A full stop ends a sentence when white space and something that can begin one follow, unless it
stands behind an initial or a common abbreviation. Errors are rare and harmless here: they make
a segment somewhat longer or shorter.
"""

import re

_WORDS = """
mr mrs ms dr prof st gen col capt lt sgt rev hon sen rep gov jr sr vs etc cf ca approx no nos vol pp
ed eds fig figs jan feb mar apr jun jul aug sept sep oct nov dec inc ltd co corp bros dept univ mt
ft e.g i.e u.s u.k a.m p.m b.c a.d
"""
_ABBREVIATIONS = frozenset(_WORDS.split())
_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])")
_LAST_WORD = re.compile(r"([\w.]+)[.!?]+[\"'”’)\]]*\s+$")


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph in order, without surrounding white space, none empty."""
    sentences = []
    start = 0
    for end in _END.finditer(paragraph):
        if _is_abbreviated(paragraph[max(start, end.start() - 20) : end.end()]):
            continue
        sentences.append(paragraph[start : end.end()].strip())
        start = end.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _is_abbreviated(tail: str) -> bool:
    match = _LAST_WORD.search(tail)
    if match is None or "!" in tail or "?" in tail:
        return False
    word = match[1].rstrip(".")
    return (len(word) == 1 and word.isupper()) or word.lower() in _ABBREVIATIONS
