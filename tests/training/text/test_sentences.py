"""Sentences end where a reader would say so, most of the time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("It rained. We stayed in.", ["It rained.", "We stayed in."]),
        ("It rained.  \n We stayed in.", ["It rained.", "We stayed in."]),
        ("Did it rain? Yes! It did.", ["Did it rain?", "Yes!", "It did."]),
        ("It rained... 12 of us left.", ["It rained...", "12 of us left."]),
        ("It cost 3.50 in all. So be it.", ["It cost 3.50 in all.", "So be it."]),
        ("the end. of it", ["the end. of it"]),
        ("No stop at the end", ["No stop at the end"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_full_stops(paragraph: str, sentences: list[str]) -> None:
    assert split_sentences(paragraph) == sentences


@pytest.mark.parametrize(
    "sentence",
    [
        "Mr. Smith met Dr. Jones at St. Paul's.",
        "The U.S. Army left in Sept. 1944.",
        "They sell apples, pears etc. Monday to Friday.",
        "It came at 5 p.m. Eastern time.",
        "See vol. 3 and (cf. Miller) the rest.",
    ],
)
def test_abbreviations_end_nothing(sentence: str) -> None:
    assert split_sentences(f"{sentence} It was late.") == [sentence, "It was late."]


@pytest.mark.parametrize("name", ["J. R. R. Tolkien", "George W. Bush"])
def test_initials_end_nothing(name: str) -> None:
    assert split_sentences(f"Then {name} came. He sat.") == [f"Then {name} came.", "He sat."]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('"Stop!"', "He stopped."),
        ("She said “never.”", "“Why?”"),
        ("(It was late.)", "(It rained.)"),
        ("He left.'", "'Good,' she said."),
        ("A day [sic.]", '"Not so," he said.'),
    ],
)
def test_quotes_and_brackets_stay_with_their_sentence(first: str, second: str) -> None:
    assert split_sentences(f"{first} {second}") == [first, second]


@given(st.text(alphabet="Ab. !?\"'”(\n9", max_size=60))
def test_nothing_is_lost(paragraph: str) -> None:
    sentences = split_sentences(paragraph)
    assert "".join("".join(sentences).split()) == "".join(paragraph.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
