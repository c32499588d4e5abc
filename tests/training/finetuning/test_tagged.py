"""Words with tags: read as published, and asked of pieces of words."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from training.errors import DataDamaged, DataMissing, DataTooSmall
from training.finetuning.tagged import IGNORED, Span, TaggedTexts, encode_tags, read_entities

SENTENCES = """\
# sent_id = 1
Anna\tB-PER
Berg\tI-PER
left\tO
New\tB-LOC
Oslo\tI-LOC
.\tO

# one that begins with I, and two side by side
Rome\tI-LOC
Otto\tB-PER
Hugo\tB-PER
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "train.iob2"
    file.write_text(text, encoding="utf-8")
    return file


def test_entities_are_read_by_their_characters(tmp_path: Path) -> None:
    found = read_entities(write(tmp_path, SENTENCES))
    assert found.texts == ("Anna Berg left New Oslo .", "Rome Otto Hugo")
    assert found.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert found.spans == (
        (Span(0, 9, "PER"), Span(15, 23, "LOC")),
        (Span(0, 4, "LOC"), Span(5, 9, "PER"), Span(10, 14, "PER")),
    )
    for text, spans in zip(found.texts, found.spans, strict=True):
        assert all(text[span.start : span.end].istitle() for span in spans)
    # What the labels do not have is none.
    fewer = read_entities(write(tmp_path, SENTENCES), ("O", "B-PER", "I-PER"))
    assert fewer.spans[1] == (Span(5, 9, "PER"), Span(10, 14, "PER"))


@pytest.mark.parametrize("line", ["Anna", "Anna\t", "Anna\tPER", "Anna\tX-PER", "\tO", "Anna\tB-"])
def test_a_line_of_another_form_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataDamaged, match="line 2 is no word with its tag"):
        read_entities(write(tmp_path, f"a\tO\n{line}\n"))


def test_a_file_that_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"train\.iob2"):
        read_entities(tmp_path / "train.iob2")
    for text in ("", "\n\n", "# nothing\n"):
        with pytest.raises(DataTooSmall, match="no sentences"):
            read_entities(write(tmp_path, text))


def test_the_first_piece_begins_an_entity_and_the_others_go_on(tokenizer: Tokenizer) -> None:
    data = TaggedTexts(
        ("sailorship near harbour",), ((Span(0, 10, "PER"),),), ("O", "B-PER", "I-PER")
    )
    ((ids, tags),) = encode_tags(tokenizer, data, 128)
    encoding = tokenizer.encode(data.texts[0])
    assert ids.tolist() == encoding.ids
    assert tags[0] == tags[-1] == IGNORED
    inside = [place for place, (start, end) in enumerate(encoding.offsets) if start < end <= 10]
    assert len(inside) > 1
    assert tags[inside].tolist() == [1, *[2] * (len(inside) - 1)]
    assert set(tags[inside[-1] + 1 : -1].tolist()) == {0}
    ((short, cut),) = encode_tags(tokenizer, data, 4)
    assert len(short) == len(cut) == 4
    assert (short[-1], cut[-1]) == (ids[-1], IGNORED)
    np.testing.assert_array_equal(cut[:3], tags[:3])
