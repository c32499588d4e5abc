"""A row a task, and a head for each."""

import importlib

import pytest

from models.errors import InvalidValue
from models.heads import HEADS
from models.tasks import TASKS, Rows, find_task


def test_every_task_has_a_head_in_a_module_of_its_stem() -> None:
    assert list(HEADS) == list(TASKS)
    for name, task in TASKS.items():
        assert task.name == name
        module = importlib.import_module(f"models.heads.{task.stem}")
        assert HEADS[name].__module__ == module.__name__
        assert HEADS[name].task is task


def test_what_the_heads_read() -> None:
    assert {name: task.rows for name, task in TASKS.items()} == {
        "embed": Rows.ALL,
        "fill-mask": Rows.MASK,
        "next-sentence": Rows.FIRST,
        "classify": Rows.FIRST,
        "token-classify": Rows.ALL,
        "answer": Rows.ALL,
    }
    assert [task.name for task in TASKS.values() if not task.weights] == ["embed"]


def test_find() -> None:
    assert find_task("fill-mask") is TASKS["fill-mask"]
    with pytest.raises(InvalidValue, match="'fill_mask' is not a task; choose from embed, "):
        find_task("fill_mask")
