"""What is asked for, of what there is."""

from pathlib import Path

import pytest

from export.errors import UnsupportedModel
from export.reading.checkpoint import load_checkpoint
from export.writing.request import choose_heads


def test_choose_heads(pretraining_source: Path) -> None:
    checkpoint = load_checkpoint(str(pretraining_source))
    for wanted, names in (
        (None, ["embed", "fill-mask", "next-sentence"]),
        (("embed",), ["embed"]),
        (("next-sentence",), ["next-sentence"]),
        (("fill-mask", "embed"), ["embed", "fill-mask"]),
    ):
        heads = choose_heads(checkpoint, wanted)
        assert [head.task for head in heads] == names
    with pytest.raises(UnsupportedModel, match="no weights for classify"):
        choose_heads(checkpoint, ("embed", "classify"))
