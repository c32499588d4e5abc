"""The rows of the families agree with transformers."""

import inspect
from typing import Any

import pytest
import transformers

from models.families import FAMILIES
from models.tasks import TASKS
from tests.helpers import checkpoints
from tests.helpers.checkpoints import make_config, make_tokenizer, name_class


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) == {*checkpoints.FAMILIES, *checkpoints.OWN_FAMILIES}


@pytest.mark.parametrize("name", checkpoints.FAMILIES)
def test_a_row_says_what_the_trunk_is(name: str) -> None:
    row = FAMILIES[name]
    config = make_config(name, make_tokenizer(name))
    assert row.name == name == config.model_type
    kind: Any = getattr(transformers, name_class(name, "Model"))
    named = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    model = kind(config, **({"add_pooling_layer": True} if named else {}))
    parts = [part for part, _ in model.named_children() if "pooler" in part]
    assert list(row.pooler) == parts if row.pooler else parts in ([], ["pooler"])
    source = inspect.getsource(inspect.getmodule(kind) or kind)
    assert row.positions_follow_padding == ("def create_position_ids_from_input_ids" in source)
    assert set(row.pretraining_tasks) <= set(TASKS)
