"""Heads in folders of their own come in the order their checkpoint gives."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from export.errors import SourceError
from export.reading.checkpoint import load_checkpoint
from tests.helpers.checkpoints import add_head, change_json


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["topics", "sentiment"], ["topics", "sentiment", "mood"]),
        (["topics", "mood", "sentiment"], ["topics", "mood", "sentiment"]),
        ([], ["mood", "sentiment", "topics"]),
        (None, ["mood", "sentiment", "topics"]),
    ],
)
def test_heads_come_in_the_order_of_head_names(
    heads_source: Path, tmp_path: Path, names: Any, order: list[str]
) -> None:
    """Others come after them, by name."""
    folder = Path(shutil.copytree(heads_source, tmp_path / "source"))
    add_head(folder, "mood", "BertForSequenceClassification", labels=["x", "y"])
    change_json(folder / "config.json", head_names=names)
    assert [head.name for head in load_checkpoint(str(folder)).heads] == order


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["gone", "sentiment"], "names the head 'gone'"),
        ("topics", "head_names that are not a list of names"),
        ([["topics"], 5], "head_names that are not a list of names"),
    ],
)
def test_names_that_give_no_order_are_refused(
    heads_source: Path, tmp_path: Path, names: Any, told: str
) -> None:
    folder = Path(shutil.copytree(heads_source, tmp_path / "source"))
    change_json(folder / "config.json", head_names=names)
    with pytest.raises(SourceError, match=told):
        load_checkpoint(str(folder))
